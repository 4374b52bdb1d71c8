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

struct DecodeByteLevel {
  bool operator==(const DecodeByteLevel&) const = default;
};
struct DecodeReplace {
  Pattern pattern;
  std::string content;
  bool operator==(const DecodeReplace&) const = default;
};
struct DecodeByteFallback {
  bool operator==(const DecodeByteFallback&) const = default;
};
struct DecodeFuse {
  bool operator==(const DecodeFuse&) const = default;
};
struct DecodeStrip {
  std::string content;  // one character
  size_t start = 0;     // how many to strip at most
  size_t stop = 0;
  bool operator==(const DecodeStrip&) const = default;
};
struct DecodeMetaspace {
  Pattern replacement;
  bool drops_first = true;
  bool operator==(const DecodeMetaspace&) const = default;
};
using DecoderStep =
    std::variant<DecodeByteLevel, DecodeReplace, DecodeByteFallback, DecodeFuse, DecodeStrip, DecodeMetaspace>;

/// Parses a `decoder` value to its steps, with sequences flattened. Throws DataError for anything unsupported.
std::vector<DecoderStep> parse_decoder(const nlohmann::json& value, std::string_view where);

std::string decode_tokens(const std::vector<DecoderStep>& steps, std::vector<std::string> tokens);

}  // namespace plumb
