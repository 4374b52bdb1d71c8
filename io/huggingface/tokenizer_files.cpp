#include "io/huggingface/tokenizer_files.hpp"

#include <mutex>
#include <set>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

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
constexpr const char* kModelConfig = "config.json";

std::string read_or_empty(const std::string& directory, const char* name, int64_t max_bytes) {
  const std::string path = join_path(directory, name);
  return is_regular_file(path) ? read_text_file(path, max_bytes) : "";
}

TokenizerTexts read_texts(const std::string& directory) {
  TokenizerTexts texts;
  const std::string path = tokenizer_files(directory).front();
  std::string contents = read_text_file(path, kMaxTokenizerBytes);
  if (path.ends_with(kTokenizerJson)) {
    texts.tokenizer_json = std::move(contents);
  } else {
    texts.sentencepiece_model = std::move(contents);
  }
  texts.tokenizer_config = read_or_empty(directory, kConfig, kMaxConfigBytes);
  texts.special_tokens_map = read_or_empty(directory, kSpecialTokens, kMaxConfigBytes);
  texts.added_tokens = read_or_empty(directory, kAddedTokens, kMaxConfigBytes);
  texts.chat_template = read_or_empty(directory, kChatTemplate, kMaxConfigBytes);
  texts.model_config = read_or_empty(directory, kModelConfig, kMaxConfigBytes);
  return texts;
}

// Once per directory.
void say_differences(const std::string& directory, const std::string& differences) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (!differences.empty() && said.insert(directory).second)
    log_info(
        "tokenizer: {}: read as transformers 5 reads it, which differs from transformers 4 in: {}; for the older ids: "
        "--tokenizer_behavior transformers4",
        directory, differences);
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
  for (const char* name : {kConfig, kSpecialTokens, kAddedTokens, kChatTemplate}) {
    if (exists(name)) paths.push_back(join_path(model_directory, name));
  }
  return paths;
}

Tokenizer load_tokenizer(const std::string& model_directory, TokenizerBehavior behavior) {
  const TokenizerTexts texts = read_texts(model_directory);
  try {
    Tokenizer tokenizer = Tokenizer::from_texts(texts, behavior);
    say_differences(model_directory, tokenizer.differences());
    return tokenizer;
  } catch (const DataError& error) {
    throw_error<DataError>("{}: {}", model_directory, error.what());
  }
}

}  // namespace plumb
