#include "lib/tokenizer/tokenizer_config.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"
#include "lib/base/utf8.hpp"

namespace plumb {

namespace {

constexpr std::string_view kFile = "tokenizer_config.json";
constexpr const char* kExtra = "extra_special_tokens";
constexpr const char* kAdditional = "additional_special_tokens";
constexpr const char* kAddedDecoder = "added_tokens_decoder";
constexpr std::array<const char*, 7> kStandardRoles = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                       "pad_token", "cls_token", "mask_token"};

AddedToken parse_token(const Json& value, bool is_special_by_default, const std::string& where) {
  AddedToken token;
  token.is_special = is_special_by_default;
  if (value.is_string()) {
    token.content = value.get<std::string>();
  } else if (value.is_object()) {
    token.content = string_field(value, "content", where);
    token.is_single_word = bool_field(value, "single_word", false, where);
    token.strips_left = bool_field(value, "lstrip", false, where);
    token.strips_right = bool_field(value, "rstrip", false, where);
    token.is_special = bool_field(value, "special", is_special_by_default, where);
    token.is_normalized = bool_field(value, "normalized", !token.is_special, where);
  } else {
    throw_error<DataError>("{}: expected a token as a string or an object, got {}", where, value.type_name());
  }
  return token;
}

NamedToken parse_named(const std::string& name, const Json& value) {
  if (value.is_null()) return {name, std::nullopt};
  AddedToken token = parse_token(value, true, fmt::format("{}: {}", kFile, name));
  token.is_special = true;
  return {name, std::move(token)};
}

bool is_standard(std::string_view name) {
  return std::find(kStandardRoles.begin(), kStandardRoles.end(), name) != kStandardRoles.end();
}

// A model's own roles are its other keys *_token, and the keys of extra_special_tokens if that is an object.
std::vector<NamedToken> parse_named_tokens(const Json& config) {
  std::vector<NamedToken> named;
  for (const char* role : kStandardRoles)
    if (config.contains(role)) named.push_back(parse_named(role, config[role]));
  for (const auto& [key, value] : config.items()) {
    const bool is_token = value.is_string() || (value.is_object() && value.contains("content"));
    if (is_token && key.ends_with("_token") && !is_standard(key)) named.push_back(parse_named(key, value));
  }
  const Json& extra = field_or_null(config, kExtra, kFile);
  if (extra.is_object())
    for (const auto& [key, value] : extra.items()) named.push_back(parse_named(key, value));
  return named;
}

std::vector<AddedToken> parse_tokens(const Json& config, const char* key) {
  std::vector<AddedToken> tokens;
  for (const Json& token : array_field(config, key, kFile))
    tokens.push_back(parse_token(token, true, fmt::format("{}: {}", kFile, key)));
  return tokens;
}

std::optional<std::vector<AddedToken>> parse_extra(const Json& config) {
  const Json& extra = field_or_null(config, kExtra, kFile);
  if (extra.is_array()) return parse_tokens(config, kExtra);
  if (!extra.is_null() && !extra.is_object())
    throw_error<DataError>("{}: {}: expected a list or an object, got {}", kFile, kExtra, extra.type_name());
  return std::nullopt;
}

std::optional<bool> parse_flag(const Json& config, const char* key) {
  if (field_or_null(config, key, kFile).is_null()) return std::nullopt;
  return bool_field(config, key, false, kFile);
}

std::vector<AddedTokenWithId> parse_added(const Json& tokens) {
  std::vector<AddedTokenWithId> added;
  const std::string where = fmt::format("{}: {}", kFile, kAddedDecoder);
  if (!tokens.is_object()) throw_error<DataError>("{}: expected an object, got {}", where, tokens.type_name());
  for (const auto& [key, value] : tokens.items()) {
    uint32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size()) {
      throw_error<DataError>("{}: expected token ids as keys, got '{}'", where, key);
    }
    added.push_back(
        {token_id_value(Json(id), where), parse_token(value, value.is_string(), fmt::format("{}: {}", where, key))});
  }
  std::sort(added.begin(), added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return added;
}

// added_tokens.json: content to id. A token with a role is special.
std::vector<AddedTokenWithId> parse_listed(std::string_view text, const TokenizerConfig& config) {
  constexpr std::string_view kWhere = "added_tokens.json";
  std::vector<AddedTokenWithId> added;
  if (text.empty()) return added;
  const Json listed = parse_json(text, kWhere);
  if (!listed.is_object()) throw_error<DataError>("{}: expected an object, got {}", kWhere, listed.type_name());
  for (const auto& [content, id] : listed.items()) {
    const auto is_it = [&, &content = content](const AddedToken& token) { return token.content == content; };
    AddedToken token;
    token.content = content;
    token.is_special =
        std::any_of(config.named.begin(), config.named.end(),
                    [&](const NamedToken& named) { return named.token && is_it(*named.token); }) ||
        (config.extra_special && std::any_of(config.extra_special->begin(), config.extra_special->end(), is_it));
    token.is_normalized = !token.is_special;
    added.push_back({token_id_value(id, kWhere), std::move(token)});
  }
  std::sort(added.begin(), added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return added;
}

/// The template of this name; a string is the default one.
std::string parse_template(const Json& config, std::string_view wanted) {
  const Json& value = field_or_null(config, "chat_template", kFile);
  if (value.is_null()) return {};
  if (value.is_string()) return wanted == "default" ? value.get<std::string>() : "";
  const std::string where = fmt::format("{}: chat_template", kFile);
  if (!value.is_array()) throw_error<DataError>("{}: expected a string or a list, got {}", where, value.type_name());
  for (const Json& entry : value) {
    std::string source = string_field(entry, "template", where);
    if (string_field(entry, "name", where) == wanted) return source;
  }
  return {};
}

Json parse_object(std::string_view text, std::string_view file) {
  if (text.empty()) return Json::object();
  Json object = parse_json(text, file);
  if (!object.is_object()) throw_error<DataError>("{}: expected an object, got {}", file, object.type_name());
  return object;
}

// The older reading: only roles that tokenizer_config.json does not name come from special_tokens_map.json.
void fill_roles(const Json& map, Json& config) {
  for (const char* role : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
    const Json& token = field_or_null(map, role, "special_tokens_map.json");
    if (!token.is_null() && !config.contains(role)) config[role] = token;
  }
  config.erase(kExtra);
  if (!field_or_null(config, kAdditional, kFile).is_null()) config[kExtra] = config[kAdditional];
}

void rename_additional(Json& config, bool replaces_empty) {
  if (!config.contains(kAdditional)) return;
  const bool is_free = !config.contains(kExtra) || (replaces_empty && config[kExtra].empty());
  if (!is_free) return;
  config[kExtra] = config[kAdditional];
  config.erase(kAdditional);
}

// Where added_tokens_decoder is absent, special_tokens_map.json goes over tokenizer_config.json.
void put_special_tokens(const Json& map, Json& config) {
  rename_additional(config, /*replaces_empty=*/true);
  for (const auto& [key, value] : map.items()) {
    if (config.contains(kAddedDecoder)) break;
    const bool is_list = key == kExtra && value.is_array() && config.contains(kExtra) && config[kExtra].is_array();
    if (!is_list) {
      config[key] = value;
      continue;
    }
    Json& known = config[kExtra];
    for (const Json& token : value)
      if (std::find(known.begin(), known.end(), token) == known.end()) known.push_back(token);
  }
  rename_additional(config, /*replaces_empty=*/false);
}

}  // namespace

const AddedToken* TokenizerConfig::find(std::string_view name) const {
  for (const NamedToken& role : named)
    if (role.name == name) return role.token && !role.token->content.empty() ? &*role.token : nullptr;
  return nullptr;
}

void TokenizerConfig::set_default(std::string_view name, std::string_view content) {
  const auto rank = [](std::string_view role) {
    return std::find(kStandardRoles.begin(), kStandardRoles.end(), role) - kStandardRoles.begin();
  };
  auto at = named.begin();
  for (; at != named.end() && rank(at->name) <= rank(name); ++at)
    if (at->name == name) return;
  AddedToken token;
  token.content = content;
  token.is_special = true;
  named.insert(at, {std::string(name), std::move(token)});
}

TokenizerConfig parse_tokenizer_config(const TokenizerTexts& texts, TokenizerBehavior behavior) {
  Json json = parse_object(texts.tokenizer_config, kFile);
  const Json map = parse_object(texts.special_tokens_map, "special_tokens_map.json");
  behavior == TokenizerBehavior::kTransformers4 ? fill_roles(map, json) : put_special_tokens(map, json);
  TokenizerConfig config;
  config.named = parse_named_tokens(json);
  config.extra_special = parse_extra(json);
  if (const Json& added = field_or_null(json, kAddedDecoder, kFile); !added.is_null()) {
    config.added = parse_added(added);
  } else {
    config.listed_added = parse_listed(texts.added_tokens, config);
  }
  config.adds_bos = parse_flag(json, "add_bos_token");
  config.adds_eos = parse_flag(json, "add_eos_token");
  config.adds_prefix_space = parse_flag(json, "add_prefix_space");
  config.legacy = parse_flag(json, "legacy");
  config.splits_special_tokens = parse_flag(json, "split_special_tokens").value_or(false);
  config.fixes_mistral_regex = parse_flag(json, "fix_mistral_regex").value_or(false);
  config.tokenizer_class = optional_string_field(json, "tokenizer_class", kFile).value_or("");
  const Json& code = field_or_null(json, "auto_map", kFile);
  config.has_own_code = code.is_array() || (code.is_object() && code.contains("AutoTokenizer"));
  config.chat_template = parse_template(json, "default");
  config.tool_template = parse_template(json, "tool_use");
  if (!texts.chat_template.empty()) {
    check_utf8(texts.chat_template, "chat_template.jinja");
    config.chat_template = texts.chat_template;
    config.tool_template = "";  // files are read in place of the list
  }
  if (!texts.tool_template.empty()) {
    check_utf8(texts.tool_template, "additional_chat_templates/tool_use.jinja");
    config.tool_template = texts.tool_template;
  }
  return config;
}

}  // namespace plumb
