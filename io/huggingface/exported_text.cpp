#include "io/huggingface/exported_text.hpp"

#include <algorithm>

#include "io/file/file.hpp"
#include "io/huggingface/further_templates.hpp"
#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr int64_t kMaxJsonBytes = 16 << 20;
constexpr const char* kChatTemplate = "chat_template.jinja";
constexpr const char* kConfig = "tokenizer_config.json";
constexpr const char* kSpecialTokens = "special_tokens_map.json";
constexpr const char* kGenerationConfig = "generation_config.json";
constexpr const char* kCopiedFiles[] = {"tokenizer.json", "tokenizer.model", "added_tokens.json", "vocab.json",
                                        "merges.txt"};

json read_object(const std::string& path) {
  json object = parse_json(read_text_file(path, kMaxJsonBytes), path);
  if (!object.is_object()) throw_error<DataError>("{}: expected an object, got {}", path, object.type_name());
  return object;
}

/// The ids of an eos_token_id: a number, a list or null.
std::vector<int32_t> ids_of(const json& object, const std::string& where) {
  std::vector<int32_t> ids;
  const json& value = field_or_null(object, "eos_token_id", where);
  if (value.is_null()) return ids;
  for (const json& id : value.is_array() ? value : json::array({value}))
    ids.push_back(token_id_value(id, where + ": eos_token_id"));
  return ids;
}

bool contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

void copy_file_of(const TokenizerSource& source, const char* name, const std::string& temporary) {
  if (const auto path = find_text_file(source, name)) copy_file(*path, join_path(temporary, name));
}

void write_json(const json& object, const std::string& temporary, const char* name) {
  write_new_file(join_path(temporary, name), object.dump(2) + "\n");
}

/// The file with a change of its object; copied where it changes nothing.
template <class Change>
void write_changed(const TokenizerSource& source, const char* name, const std::string& temporary,
                   const Change& change) {
  const auto path = find_text_file(source, name);
  const json before = path ? read_object(*path) : json::object();
  json after = before;
  change(after);
  if (after != before) write_json(after, temporary, name);
  if (after == before && path) copy_file(*path, join_path(temporary, name));
}

/// tokenizer_config.json, special_tokens_map.json and all templates.
void write_tokenizer_config(const ExportedText& text, const std::string& temporary) {
  const std::string& eos = text.tokenizer.eos_token;
  const bool has_template = !text.chat_template.empty();
  write_changed(text.tokenizer, kConfig, temporary, [&](json& config) {
    FurtherTemplates further = read_further_templates(text.tokenizer, has_template ? config : json::object());
    if (has_template) drop_tool_template(further);
    write_further_templates(further, temporary);
    if (!eos.empty()) replace_eos_token(config, eos);
    if (has_template) config.erase("chat_template");
  });
  write_changed(text.tokenizer, kSpecialTokens, temporary, [&](json& map) {
    if (!eos.empty() && map.contains("eos_token")) map["eos_token"] = eos;
  });
  if (has_template) {
    write_new_file(join_path(temporary, kChatTemplate), text.chat_template);
  } else {
    copy_file_of(text.tokenizer, kChatTemplate, temporary);
  }
}

/// The values that transformers takes from config.json where there is no generation_config.json.
json default_generation_config(const ModelConfig& config) {
  json object = {{"eos_token_id", config.eos_token_ids}};
  if (config.bos_token_id >= 0) object["bos_token_id"] = config.bos_token_id;
  if (config.pad_token_id >= 0) object["pad_token_id"] = config.pad_token_id;
  return object;
}

/// generation_config.json: as it was, with the ids that it lacks.
void write_generation_config(const ExportedText& text, const ModelConfig& config, const std::string& temporary) {
  const auto path = find_text_file(text.tokenizer, kGenerationConfig);
  if (!path && config.head == HeadKind::kScore) return;
  json object = path ? read_object(*path) : default_generation_config(config);
  const std::vector<int32_t> before = ids_of(object, path.value_or("config.json"));
  std::vector<int32_t> ids = before;
  if (text.eos_id && !contains(ids, *text.eos_id)) ids.insert(ids.begin(), *text.eos_id);
  if (text.turn_end && !contains(ids, *text.turn_end)) ids.push_back(*text.turn_end);
  if (ids == before) return copy_file_of(text.tokenizer, kGenerationConfig, temporary);
  object["eos_token_id"] = ids.size() == 1 ? json(ids[0]) : json(ids);
  object.erase("_from_model_config");  // transformers would read config.json instead
  write_json(object, temporary, kGenerationConfig);
}

}  // namespace

std::vector<int32_t> read_generation_ends(const TokenizerSource& source) {
  std::vector<int32_t> ids;
  for (const std::string& directory : {source.model, source.adapter}) {
    const std::string path = directory.empty() ? "" : join_path(directory, kGenerationConfig);
    if (path.empty() || !is_regular_file(path)) continue;
    for (const int32_t id : ids_of(read_object(path), path))
      if (!contains(ids, id)) ids.push_back(id);
  }
  return ids;
}

void align_eos(json& config, std::optional<int32_t> eos_id) {
  if (!eos_id) return;
  json& ids = config["eos_token_id"];
  if (!ids.is_array()) {
    ids = *eos_id;
  } else if (std::find(ids.begin(), ids.end(), *eos_id) == ids.end()) {
    ids.insert(ids.begin(), *eos_id);
  }
}

int64_t text_files_bytes(const TokenizerSource& source) {
  int64_t bytes = 0;
  for (const std::string& path : tokenizer_files(source)) bytes += File::open_for_reading(path).size_bytes();
  return bytes;
}

void write_text_files(const ExportedText& text, const ModelConfig& config, const std::string& temporary) {
  for (const char* name : kCopiedFiles) copy_file_of(text.tokenizer, name, temporary);
  write_tokenizer_config(text, temporary);
  write_generation_config(text, config, temporary);
}

}  // namespace plumb
