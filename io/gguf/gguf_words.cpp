#include "io/gguf/gguf_words.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

using Json = nlohmann::json;

constexpr const char* kWhere = "io/gguf/gguf_words.cpp";
constexpr const char* kSpaceMark = "\xE2\x96\x81";  // U+2581

struct PreTokenizer {
  std::string_view name;
  std::vector<const char*> splits;  // expressions, each isolated
  bool has_gpt2_words;              // ByteLevel then splits further by those of GPT-2
  bool ignores_merges;
  bool has_marks = true;  // llama.cpp's own expression keeps combining marks in words, as the given one
};

/// Where two have the same splits, the one that treats merges alike is chosen, else the first.
const std::vector<PreTokenizer>& pre_tokenizers() {
  static const std::vector<PreTokenizer> known = {
      {"gpt-2", {}, true, false},
      {"smollm", {R"(\p{N})"}, true, false},
      {"llama-bpe",
       {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
        R"(\s+(?!\S)|\s+)"},
       false,
       true},
      {"dbrx",
       {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
        R"(\s+(?!\S)|\s+)"},
       false,
       false},
      {"qwen2",
       {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
        R"(\s+(?!\S)|\s+)"},
       false,
       false},
      {"qwen35",
       {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)"
        R"(\s*[\r\n]+|\s+(?!\S)|\s+)"},
       false,
       false},
      {"tekken",
       {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
        R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|)"
        R"( ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
       false,
       true,
       /*has_marks=*/false},
      {"gpt-4o",
       {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
        R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
       false,
       false,
       /*has_marks=*/false},
      {"deepseek-v3",
       {R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
        "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},
       false,
       false},
      {"deepseek-coder",
       {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-퟿]+", R"(\p{N})"},
       false,
       false},
  };
  return known;
}

std::vector<PreTokenizerStep> steps_of(const PreTokenizer& known) {
  Json steps = Json::array();
  for (const char* expression : known.splits)
    steps.push_back({{"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}});
  steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", known.has_gpt2_words}});
  return parse_pre_tokenizer({{"type", "Sequence"}, {"pretokenizers", steps}}, kWhere);
}

/// Words that an expression matches, and what is between them, are the same pieces as delimiters that are isolated.
std::vector<PreTokenizerStep> plain_steps(std::vector<PreTokenizerStep> steps) {
  for (PreTokenizerStep& step : steps)
    if (auto* split = std::get_if<SplitStep>(&step);
        split != nullptr && split->is_inverted && split->behavior == SplitBehavior::kRemoved) {
      split->is_inverted = false;
      split->behavior = SplitBehavior::kIsolated;
    }
  return steps;
}

bool is_byte_level(const TokenizerParts& parts) {
  return !parts.pre_tokenizer.empty() && std::holds_alternative<ByteLevelStep>(parts.pre_tokenizer.back());
}

GgufWords find_byte_level(const TokenizerParts& parts, std::string_view where) {
  const bool has_other_form =
      std::any_of(parts.normalizer.begin(), parts.normalizer.end(),
                  [](const NormalizerStep& step) { return step != NormalizerStep(UnicodeForm::kNfc); });
  if (has_other_form)
    throw_error<DataError>("{}: GGUF: expected no normalizer or NFC, as llama.cpp has none for byte-level tokenizers",
                           where);
  const std::vector<PreTokenizerStep> steps = plain_steps(parts.pre_tokenizer);
  const PreTokenizer* found = nullptr;
  for (const PreTokenizer& known : pre_tokenizers()) {
    if (steps_of(known) != steps) continue;
    if (found == nullptr || known.ignores_merges == parts.bpe.ignores_merges) found = &known;
  }
  if (found != nullptr) {
    GgufWords words = {.model = "gpt2", .pre = found->name, .ignores_merges = found->ignores_merges};
    if (!parts.normalizer.empty()) words.note = "llama.cpp does not bring text into the Unicode form NFC";
    if (!found->has_marks)
      words.note = "llama.cpp splits words of scripts with combining marks, such as Devanagari, otherwise";
    return words;
  }
  std::string names;
  for (const PreTokenizer& known : pre_tokenizers()) names += (names.empty() ? "" : ", ") + std::string(known.name);
  throw_error<DataError>(
      "{}: GGUF: expected the pre_tokenizer of a tokenizer.json that llama.cpp has by name ({}), got another one",
      where, names);
}

/// The normalizer and pre-tokenizer of a SentencePiece style tokenizer.
struct SpaceRule {
  Json normalizer, pre_tokenizer;
  bool puts_space_first;
  std::string_view note = {};
};

std::vector<SpaceRule> space_rules() {
  const Json mark = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpaceMark}};
  const Json prepend = {{"type", "Prepend"}, {"prepend", kSpaceMark}};
  const Json both = {{"type", "Sequence"}, {"normalizers", {prepend, mark}}};
  const Json no_split = {{"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "MergedWithPrevious"}};
  const auto metaspace = [](const char* scheme) {
    return Json{{"type", "Metaspace"}, {"replacement", kSpaceMark}, {"prepend_scheme", scheme}, {"split", false}};
  };
  return {{both, nullptr, true},
          {mark, nullptr, false},
          {mark, no_split, false},
          {nullptr, metaspace("always"), true, "llama.cpp puts a space first also where a text begins with one"},
          {nullptr, metaspace("first"), true,
           "llama.cpp puts a space first also after control tokens, and where a text begins with one"},
          {nullptr, metaspace("never"), false}};
}

}  // namespace

GgufWords find_gguf_words(const TokenizerParts& parts, std::string_view where) {
  if (is_byte_level(parts)) return find_byte_level(parts, where);
  if (!parts.bpe.falls_back_to_bytes)
    throw_error<DataError>(
        "{}: GGUF: expected a tokenizer of bytes, or one with byte_fallback, as llama.cpp runs no others", where);
  for (const SpaceRule& rule : space_rules())
    if (parse_normalizer(rule.normalizer, kWhere) == parts.normalizer &&
        parse_pre_tokenizer(rule.pre_tokenizer, kWhere) == parts.pre_tokenizer)
      return {.model = "llama", .pre = "default", .puts_space_first = rule.puts_space_first, .note = rule.note};
  throw_error<DataError>(
      "{}: GGUF: expected the normalizer and pre_tokenizer of Llama 2, Mistral or Gemma, as llama.cpp has no others "
      "for "
      "tokenizers with byte_fallback",
      where);
}

}  // namespace plumb
