#include "io/huggingface/tokenizer_files.hpp"

#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"

namespace plumb {
namespace {

constexpr int64_t kMaxTokenizerBytes = 256 << 20;
constexpr int64_t kMaxConfigBytes = 16 << 20;

constexpr const char* kTokenizerJson = "tokenizer.json";
constexpr const char* kTokenizerModel = "tokenizer.model";
constexpr const char* kConfig = "tokenizer_config.json";
constexpr const char* kSpecialTokens = "special_tokens_map.json";
constexpr const char* kChatTemplate = "chat_template.jinja";

std::string read_or_empty(const std::string& directory, const char* name, int64_t max_bytes) {
  const std::string path = join_path(directory, name);
  return is_regular_file(path) ? read_text_file(path, max_bytes) : "";
}

/// tokenizer_config.json merged with the files that override or extend it; "" if there are none.
std::string effective_config(const std::string& directory) {
  const std::string text = read_or_empty(directory, kConfig, kMaxConfigBytes);
  const std::string special_tokens = read_or_empty(directory, kSpecialTokens, kMaxConfigBytes);
  const std::string chat_template = read_or_empty(directory, kChatTemplate, kMaxConfigBytes);
  if (special_tokens.empty() && chat_template.empty()) return text;

  Json config = text.empty() ? Json::object() : parse_json(text, kConfig);
  if (!config.is_object()) throw_error<DataError>("{}: expected an object, got {}", kConfig, config.type_name());
  if (!special_tokens.empty()) {
    const Json map = parse_json(special_tokens, kSpecialTokens);
    for (const char* role : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
      const Json& token = field_or_null(map, role, kSpecialTokens);
      if (!token.is_null() && !config.contains(role)) config[role] = token;
    }
  }
  if (!chat_template.empty()) {
    check_utf8(chat_template, kChatTemplate);
    config["chat_template"] = chat_template;
  }
  return config.dump();
}

}  // namespace

std::vector<std::string> tokenizer_files(const std::string& model_directory) {
  const auto exists = [&](const char* name) { return is_regular_file(join_path(model_directory, name)); };
  std::vector<std::string> paths;
  if (exists(kTokenizerJson)) {
    paths.push_back(join_path(model_directory, kTokenizerJson));
  } else if (exists(kTokenizerModel)) {
    paths.push_back(join_path(model_directory, kTokenizerModel));
  } else {
    throw_error<InputOutputError>("{}: expected {} or {}, got neither; is it a model directory?", model_directory,
                                  kTokenizerJson, kTokenizerModel);
  }
  for (const char* name : {kConfig, kSpecialTokens, kChatTemplate}) {
    if (exists(name)) paths.push_back(join_path(model_directory, name));
  }
  return paths;
}

Tokenizer load_tokenizer(const std::string& model_directory) {
  const std::string tokenizer_path = tokenizer_files(model_directory).front();
  const std::string contents = read_text_file(tokenizer_path, kMaxTokenizerBytes);
  try {
    const std::string config = effective_config(model_directory);
    return tokenizer_path.ends_with(kTokenizerJson) ? Tokenizer::from_json(contents, config)
                                                    : Tokenizer::from_sentencepiece(contents, config);
  } catch (const DataError& error) {
    throw_error<DataError>("{}: {}", model_directory, error.what());
  }
}

}  // namespace plumb
