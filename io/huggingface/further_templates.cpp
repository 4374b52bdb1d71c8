#include "io/huggingface/further_templates.hpp"

#include <algorithm>
#include <filesystem>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"
#include "lib/base/log.hpp"
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

void add_listed(const nlohmann::json& tokenizer_config, FurtherTemplates& files) {
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

void add_files(const std::string& folder, FurtherTemplates& files) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().extension() == ".jinja" && is_regular_file(entry.path()))
      files[entry.path().filename()] = read_text_file(entry.path(), kMaxTemplateBytes);
  if (error) throw_error<InputOutputError>("{}: cannot list: {}", folder, error.message());
}

}  // namespace

std::optional<std::string> find_further_template(const TokenizerSource& source, const std::string& name) {
  const std::string folder = find_folder(source), path = join_path(folder, name + ".jinja");
  return !folder.empty() && is_regular_file(path) ? std::optional(path) : std::nullopt;
}

FurtherTemplates read_further_templates(const TokenizerSource& source, const nlohmann::json& tokenizer_config) {
  FurtherTemplates templates;
  add_listed(tokenizer_config, templates);
  if (const std::string folder = find_folder(source); !folder.empty()) add_files(folder, templates);
  return templates;
}

void drop_tool_template(FurtherTemplates& templates) {
  if (templates.erase("tool_use.jinja") != 0)
    log_warning(
        "the model's own template for tools (tool_use) is not exported: the named chat template renders them, too");
}

void write_further_templates(const FurtherTemplates& templates, const std::string& directory) {
  if (templates.empty()) return;
  const std::string folder = join_path(directory, kFolder);
  std::error_code error;
  fs::create_directory(folder, error);
  if (error) throw_error<InputOutputError>("{}: cannot create: {}", folder, error.message());
  for (const auto& [name, contents] : templates) write_new_file(join_path(folder, name), contents);
  sync_directory(folder);
}

}  // namespace plumb
