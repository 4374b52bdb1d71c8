// Turns token strings back into text: the decoders of tokenizer.json.
// Source: huggingface/tokenizers, decoders.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lib/tokenizer/pattern.hpp"
#include "lib/tokenizer/pre_tokenizer.hpp"

namespace plumb {

struct DecodeByteLevel {};
struct DecodeReplace {
  Pattern pattern;
  std::string content;
};
struct DecodeByteFallback {};
struct DecodeFuse {};
struct DecodeStrip {
  std::string content;  // one character
  size_t start = 0;     // how many to strip at most
  size_t stop = 0;
};
struct DecodeMetaspace {
  Pattern replacement;
  bool drops_first = true;
};
using DecoderStep =
    std::variant<DecodeByteLevel, DecodeReplace, DecodeByteFallback, DecodeFuse, DecodeStrip, DecodeMetaspace>;

/// Parses a `decoder` value to its steps, with sequences flattened. Throws DataError for anything unsupported.
std::vector<DecoderStep> parse_decoder(const nlohmann::json& value, std::string_view where);

std::string decode_tokens(const std::vector<DecoderStep>& steps, std::vector<std::string> tokens);

}  // namespace plumb
