// Small tokenizers for the tests, as JSON in the format of Hugging Face.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "lib/tokenizer/byte_level.hpp"

namespace plumb {

using Json = nlohmann::json;

inline Json added_token(int id, const std::string& content, bool is_special, Json more = Json::object()) {
  Json token = {{"id", id},        {"content", content}, {"special", is_special}, {"normalized", false},
                {"lstrip", false}, {"rstrip", false},    {"single_word", false}};
  token.update(more);
  return token;
}

/// Byte-level: ids 0 to 255 are bytes, ids from 256 are merges, ids from 300 are added tokens.
inline Json byte_level_fixture() {
  Json vocab;
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    append_byte_level(token, std::string(1, static_cast<char>(byte)));
    vocab[token] = byte;
  }
  Json merges = Json::array();
  int next = 256;
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{
           {"l", "l"}, {"h", "e"}, {"he", "ll"}, {"hell", "o"}, {"Ġ", "hello"}, {"a", "b"}, {"ab", "ab"}, {"a", "a"}}) {
    vocab[left + right] = next++;
    merges.push_back({left, right});
  }
  return {{"version", "1.0"},
          {"added_tokens",
           {added_token(300, "<|bos|>", true), added_token(301, "<|start|>", true), added_token(302, "<|end|>", true),
            added_token(303, "<tool>", false)}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

/// SentencePiece style: <unk> <s> </s>, bytes as 3 to 258, then pieces; scores are in id order.
inline const std::vector<std::string>& sentencepiece_pieces() {
  static const std::vector<std::string> pieces = {"▁h", "el", "lo", "▁hel", "▁hello", "▁▁", "▁a", "ab", "▁ab",
                                                  "▁",  "h",  "e",  "l",    "o",      "a",  "b",  "é",  "漢"};
  return pieces;
}

inline Json llama_fixture() {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = byte + 3;
  int next = 259;
  for (const std::string& piece : sentencepiece_pieces()) vocab[piece] = next++;
  const Json merges = {"▁ h", "e l", "l o", "▁h el", "▁hel lo", "▁ ▁", "▁ a", "a b", "▁a b", "▁ ab"};
  const Json prepend = {{"type", "Prepend"}, {"prepend", "▁"}};
  const Json mark = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
  const Json unmark = {{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
  const Json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  const Json single = {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                       {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}};
  return {{"version", "1.0"},
          {"added_tokens", {added_token(0, "<unk>", true), added_token(1, "<s>", true), added_token(2, "</s>", true)}},
          {"normalizer", {{"type", "Sequence"}, {"normalizers", {prepend, mark}}}},
          {"pre_tokenizer", nullptr},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", single},
            {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}}},
          {"decoder",
           {{"type", "Sequence"}, {"decoders", {unmark, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip}}}},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"fuse_unk", true},
            {"byte_fallback", true},
            {"vocab", vocab},
            {"merges", merges}}}};
}

/// Up to 40 code points, many of them unusual.
inline std::string random_text(std::mt19937& random) {
  static const std::vector<std::string> parts = {"hello", " ",  "  ",    "\n",      "ab", "aa",   "l",
                                                 "'s",    "12", "é",     "e\u0301", "漢", "🙂", "\u200d",
                                                 "<|",    "|>", "start", "<0x41>",  "\r", "\t"};
  std::string text;
  for (size_t count = random() % 40; count > 0; --count) {
    if (random() % 2 == 0) {
      text += parts[random() % parts.size()];
      continue;
    }
    char32_t value = random() % 0x110000;
    if ((value >= 0xD800 && value < 0xE000) || value == 0x2581) value = 0;
    append_code_point(text, value);
  }
  return text;
}

}  // namespace plumb
