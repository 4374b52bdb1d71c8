#include "io/huggingface/tokenizer_files.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "io/file/file.hpp"
#include "io/huggingface/further_templates.hpp"
#include "io/huggingface/tokenizer_reading.hpp"
#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"
#include "lib/base/log_once.hpp"

namespace plumb {
namespace {

constexpr int64_t kMaxTokenizerBytes = 256 << 20;
constexpr int64_t kMaxConfigBytes = 16 << 20;

constexpr const char* kTokenizerJson = "tokenizer.json";
constexpr const char* kTokenizerModel = "tokenizer.model";
constexpr const char* kConfig = "tokenizer_config.json";
constexpr const char* kSpecialTokens = "special_tokens_map.json";
constexpr const char* kAddedTokens = "added_tokens.json";
constexpr const char* kChatTemplate = "chat_template.jinja";
constexpr const char* kToolTemplate = "tool_use";
constexpr const char* kModelConfig = "config.json";
constexpr const char* kGenerationConfig = "generation_config.json";

bool exists(const std::string& directory, const char* name) { return is_regular_file(join_path(directory, name)); }

bool has_vocabulary(const std::string& directory) {
  return exists(directory, kTokenizerJson) || exists(directory, kTokenizerModel);
}

Json parse_object(const std::string& text, const char* name) {
  Json object = parse_json(text, name);
  if (!object.is_object()) throw_error<DataError>("{}: expected an object, got {}", name, object.type_name());
  return object;
}

bool config_has_template(const std::string& directory) {
  const std::string path = join_path(directory, kConfig);
  if (!is_regular_file(path)) return false;
  return parse_object(read_text_file(path, kMaxConfigBytes), path.c_str()).contains("chat_template");
}

std::string read_or_empty(const TokenizerSource& source, const char* name, int64_t max_bytes) {
  const std::optional<std::string> path = find_text_file(source, name);
  return path ? read_text_file(*path, max_bytes) : "";
}

/// With `eos_token` in place of the EOS that the files name.
TokenizerTexts read_texts(const TokenizerSource& source) {
  TokenizerTexts texts;
  const std::string path = tokenizer_files(source).front();
  std::string contents = read_text_file(path, kMaxTokenizerBytes);
  if (path.ends_with(kTokenizerJson)) {
    texts.tokenizer_json = std::move(contents);
  } else {
    texts.sentencepiece_model = std::move(contents);
  }
  texts.tokenizer_config = read_or_empty(source, kConfig, kMaxConfigBytes);
  texts.special_tokens_map = read_or_empty(source, kSpecialTokens, kMaxConfigBytes);
  texts.added_tokens = read_or_empty(source, kAddedTokens, kMaxConfigBytes);
  texts.chat_template = read_or_empty(source, kChatTemplate, kMaxConfigBytes);
  if (const auto tools = find_further_template(source, kToolTemplate))
    texts.tool_template = read_text_file(*tools, kMaxConfigBytes);
  // an adapter's tokenizer was trained with the model, whose type may decide how it is read
  const std::string model_config = join_path(source.model, kModelConfig);
  if (is_regular_file(model_config)) texts.model_config = read_text_file(model_config, kMaxConfigBytes);
  if (source.eos_token.empty()) return texts;
  Json config = texts.tokenizer_config.empty() ? Json::object() : parse_object(texts.tokenizer_config, kConfig);
  replace_eos_token(config, source.eos_token);
  texts.tokenizer_config = config.dump();
  if (texts.special_tokens_map.empty()) return texts;
  Json map = parse_object(texts.special_tokens_map, kSpecialTokens);
  if (map.contains("eos_token")) replace_eos_token(map, source.eos_token);
  texts.special_tokens_map = map.dump();
  return texts;
}

void say_differences(const std::string& directory, const std::string& differences) {
  if (differences.empty()) return;
  log_info_once(
      fmt::format("tokenizer: {}: read as transformers 5 reads it, which differs from transformers 4 in: {}; for the "
                  "older ids: --tokenizer_behavior transformers4",
                  directory, differences));
}

/// The content of a token as a string or an object; "" for anything else.
std::string content_of(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  const auto content = token.is_object() ? token.find("content") : token.end();
  return token.is_object() && content != token.end() && content->is_string() ? content->get<std::string>() : "";
}

}  // namespace

std::optional<std::string> find_text_file(const TokenizerSource& source, const char* name) {
  if (!source.adapter.empty()) {
    const std::string_view file = name;
    if (exists(source.adapter, name)) return join_path(source.adapter, name);
    if (file != kGenerationConfig && has_vocabulary(source.adapter)) return std::nullopt;
    if (file == kChatTemplate && config_has_template(source.adapter)) return std::nullopt;
  }
  if (source.model.empty()) return std::nullopt;
  return exists(source.model, name) ? std::optional(join_path(source.model, name)) : std::nullopt;
}

std::vector<std::string> tokenizer_files(const TokenizerSource& source) {
  std::optional<std::string> vocabulary = find_text_file(source, kTokenizerJson);
  if (!vocabulary) vocabulary = find_text_file(source, kTokenizerModel);
  if (!vocabulary)
    throw_error<InputOutputError>("{}: expected {} or {}, got neither; is it a model directory?", source.model,
                                  kTokenizerJson, kTokenizerModel);
  std::vector<std::string> paths = {*vocabulary};
  for (const char* name : {kConfig, kSpecialTokens, kAddedTokens, kChatTemplate})
    if (const auto path = find_text_file(source, name)) paths.push_back(*path);
  return paths;
}

std::vector<std::string> tokenizer_files(const std::string& model_directory) {
  return tokenizer_files(TokenizerSource{model_directory});
}

Tokenizer load_tokenizer(const TokenizerSource& source) {
  const std::string directory = parent_path(tokenizer_files(source).front());
  if (!source.eos_token.empty()) {
    const TokenizerReading own = load_tokenizer_parts({source.model, source.adapter, "", source.behavior});
    if (find_token(own.parts, source.eos_token) < 0)
      throw_error<UsageError>(
          "--eos_token {}: expected a token of the vocabulary of {}, got none; name the token that ends a turn or text",
          source.eos_token, directory);
  }
  try {
    Tokenizer tokenizer = Tokenizer::from_texts(read_texts(source), source.behavior);
    say_differences(directory, tokenizer.differences());
    return tokenizer;
  } catch (const DataError& error) {
    throw_error<DataError>("{}: {}", directory, error.what());
  }
}

Tokenizer load_tokenizer(const std::string& model_directory) {
  return load_tokenizer(TokenizerSource{model_directory});
}

TokenizerReading load_tokenizer_parts(const TokenizerSource& source) {
  const std::string directory = parent_path(tokenizer_files(source).front());
  try {
    return read_tokenizer(read_texts(source), source.behavior);
  } catch (const DataError& error) {
    throw_error<DataError>("{}: {}", directory, error.what());
  }
}

void replace_eos_token(Json& config, const std::string& eos_token) {
  const std::string before = config.contains("eos_token") ? content_of(config["eos_token"]) : "";
  if (before == eos_token) return;
  config["eos_token"] = eos_token;
  if (before.empty()) return;
  const auto is_before = [&](const Json& token) { return content_of(token) == before; };
  const auto names_it = [&](const char* key) {
    const auto list = config.find(key);
    return list != config.end() && list->is_structured() && std::any_of(list->begin(), list->end(), is_before);
  };
  if (names_it("added_tokens_decoder") || names_it("additional_special_tokens") || names_it("extra_special_tokens"))
    return;
  const bool has_extra = config.contains("extra_special_tokens") && config["extra_special_tokens"].is_array();
  Json& list = config[has_extra ? "extra_special_tokens" : "additional_special_tokens"];
  if (list.is_null() || list.is_array()) list.push_back(before);
}

bool has_other_tokenizer(const TokenizerSource& source) {
  if (source.adapter.empty()) return false;
  const auto is_other = [&](const char* name) {
    const auto used = find_text_file(source, name);
    const auto own = find_text_file({source.model}, name);
    if (used.has_value() != own.has_value()) return true;
    return used && *used != *own &&
           read_text_file(*used, kMaxTokenizerBytes) != read_text_file(*own, kMaxTokenizerBytes);
  };
  const auto files = {kTokenizerJson, kTokenizerModel, kConfig, kSpecialTokens, kAddedTokens, kChatTemplate};
  return std::any_of(files.begin(), files.end(), is_other);
}

}  // namespace plumb
