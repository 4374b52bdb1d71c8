#include "io/huggingface/further_templates.hpp"

#include <algorithm>
#include <filesystem>
#include <map>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"
#include "lib/model/config_json.hpp"

namespace plumb {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxTemplateBytes = 16 << 20;
constexpr const char* kFolder = "additional_chat_templates";
constexpr const char* kConfig = "tokenizer_config.json";

/// The folder of those that belong to the text files in use; "": there is none.
std::string find_folder(const TokenizerSource& source) {
  if (!source.adapter.empty()) {
    if (const std::string own = join_path(source.adapter, kFolder); is_directory(own)) return own;
    for (const char* name : {"tokenizer.json", "tokenizer.model", kConfig, "chat_template.jinja"})
      if (is_regular_file(join_path(source.adapter, name))) return "";
  }
  const std::string folder = source.model.empty() ? "" : join_path(source.model, kFolder);
  return is_directory(folder) ? folder : "";
}

/// Contents by file name.
using Files = std::map<std::string, std::string>;

void add_listed(const nlohmann::json& tokenizer_config, Files& files) {
  constexpr std::string_view kNameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  const auto list = tokenizer_config.find("chat_template");
  if (list == tokenizer_config.end() || !list->is_array()) return;
  for (const nlohmann::json& entry : *list) {
    const std::string name = string_field(entry, "name", kConfig);
    if (name == "default") continue;
    if (name.empty() || name.find_first_not_of(kNameCharacters) != std::string::npos)
      throw_error<DataError>("{}: chat_template: expected a name of letters, digits and ._-, got {}", kConfig,
                             quote_json(name));
    files[name + ".jinja"] = string_field(entry, "template", kConfig);
  }
}

void add_files(const std::string& folder, Files& files) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().extension() == ".jinja" && is_regular_file(entry.path()))
      files[entry.path().filename()] = read_text_file(entry.path(), kMaxTemplateBytes);
  if (error) throw_error<InputOutputError>("{}: cannot list: {}", folder, error.message());
}

}  // namespace

void write_further_templates(const TokenizerSource& source, const nlohmann::json& tokenizer_config,
                             const std::string& directory) {
  Files files;
  add_listed(tokenizer_config, files);
  if (const std::string folder = find_folder(source); !folder.empty()) add_files(folder, files);
  if (files.empty()) return;
  const std::string folder = join_path(directory, kFolder);
  std::error_code error;
  fs::create_directory(folder, error);
  if (error) throw_error<InputOutputError>("{}: cannot create: {}", folder, error.message());
  for (const auto& [name, contents] : files) write_new_file(join_path(folder, name), contents);
  sync_directory(folder);
}

}  // namespace plumb
