// A tokenizer.json with readable ids: one token per byte, and <unk> <s> </s>. No merges and no added tokens.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace plumb {

inline constexpr int32_t kBosId = 1;
inline constexpr int32_t kEosId = 2;
inline constexpr int32_t kByteVocabSize = 3 + 256;

inline int32_t byte_id(char byte) { return 3 + static_cast<unsigned char>(byte); }

inline std::string byte_tokenizer_json() {
  using nlohmann::json;
  json vocab = {{"<unk>", 0}, {"<s>", kBosId}, {"</s>", kEosId}}, added = json::array();
  for (int byte = 0; byte < 256; ++byte) {
    const char* digits = "0123456789ABCDEF";
    vocab[std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">"] = byte_id(static_cast<char>(byte));
  }
  for (const char* token : {"<unk>", "<s>", "</s>"}) {
    added.push_back({{"id", added.size()},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const json byte_fallback = {{"type", "ByteFallback"}}, fuse = {{"type", "Fuse"}};
  const json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", "<unk>"},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", true},
                      {"byte_fallback", true},
                      {"ignore_merges", false},
                      {"vocab", vocab},
                      {"merges", json::array()}};
  return json({{"version", "1.0"},
               {"truncation", nullptr},
               {"padding", nullptr},
               {"added_tokens", added},
               {"normalizer", nullptr},
               {"pre_tokenizer", nullptr},
               {"post_processor", nullptr},
               {"decoder", {{"type", "Sequence"}, {"decoders", {byte_fallback, fuse}}}},
               {"model", model}})
      .dump();
}

}  // namespace plumb
