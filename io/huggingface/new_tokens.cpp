#include "io/huggingface/new_tokens.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/file/file.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxTokenizerBytes = 256 << 20;

ordered_json parse_object(const std::string& path) {
  ordered_json parsed = ordered_json::parse(read_text_file(path, kMaxTokenizerBytes), nullptr, false);
  if (!parsed.is_object()) throw_error<DataError>("{}: expected a JSON object", path);
  return parsed;
}

void rewrite(const std::string& path, const ordered_json& content) {
  std::filesystem::remove(path);
  write_new_file(path, content.dump(2) + "\n");
}

/// The entry of a text in the list added_tokens; null if it is not there.
const ordered_json* find_added(const ordered_json& added, const std::string& text) {
  for (const ordered_json& token : added)
    if (token.is_object() && token.value("content", "") == text) return &token;
  return nullptr;
}

/// Whether the vocabulary of the tokenizer's model, {text: id} or [[text, score]...], has this text.
bool is_ordinary(const ordered_json& tokenizer, const std::string& text) {
  const ordered_json model = tokenizer.value("model", ordered_json::object());
  const ordered_json vocabulary = model.value("vocab", ordered_json::object());
  if (vocabulary.is_object()) return vocabulary.contains(text);
  return std::any_of(vocabulary.begin(), vocabulary.end(), [&](const ordered_json& entry) {
    return entry.is_array() && !entry.empty() && entry.front() == text;
  });
}

}  // namespace

nlohmann::json control_token(const std::string& text) {
  return {{"content", text}, {"lstrip", false},      {"normalized", false},
          {"rstrip", false}, {"single_word", false}, {"special", true}};
}

std::vector<NewToken> add_tokens(const std::string& directory, std::span<const std::string> texts) {
  const std::string path = join_path(directory, "tokenizer.json");
  if (!is_regular_file(path))
    throw_error<DataError>(
        "{}: expected a tokenizer.json to add tokens to; transformers' AutoTokenizer.from_pretrained(DIR)"
        ".save_pretrained(DIR) writes one",
        directory);
  const Tokenizer before = load_tokenizer(directory);  // checks all files
  ordered_json tokenizer = parse_object(path);
  ordered_json& list = tokenizer["added_tokens"];
  if (list.is_null()) list = ordered_json::array();
  int64_t next = before.vocab_size();
  std::vector<NewToken> added;
  for (const std::string& text : texts) {
    if (text.empty()) throw UsageError("--add_tokens: expected tokens of at least one character, got an empty one");
    if (std::any_of(added.begin(), added.end(), [&](const NewToken& other) { return other.text == text; }))
      throw_error<UsageError>("--add_tokens: {} is given twice", text);
    if (const ordered_json* token = find_added(list, text)) {
      added.push_back({text, token->value("id", int64_t{-1}), true});
      continue;
    }
    if (is_ordinary(tokenizer, text))
      throw_error<DataError>("{}: {} is an ordinary token of the vocabulary; choose another text", path, text);
    ordered_json token = {{"id", next}};
    token.update(ordered_json(control_token(text)));
    list.push_back(token);
    added.push_back({text, next++});
  }
  rewrite(path, tokenizer);
  const std::string config_path = join_path(directory, "tokenizer_config.json");
  if (!is_regular_file(config_path)) return added;
  ordered_json config = parse_object(config_path);
  if (!config.contains("added_tokens_decoder")) return added;
  for (const NewToken& token : added)
    if (!token.was_there) config["added_tokens_decoder"][std::to_string(token.id)] = control_token(token.text);
  rewrite(config_path, config);
  return added;
}

}  // namespace plumb
