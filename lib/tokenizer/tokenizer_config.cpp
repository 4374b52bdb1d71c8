#include "lib/tokenizer/tokenizer_config.hpp"

#include <charconv>

#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"

namespace plumb {

namespace {

constexpr std::string_view kFile = "tokenizer_config.json";

AddedToken parse_token(const Json& value, const std::string& where) {
  AddedToken token;
  token.is_special = true;
  if (value.is_string()) {
    token.content = value.get<std::string>();
  } else if (value.is_object()) {
    token.content = string_field(value, "content", where);
    token.is_single_word = bool_field(value, "single_word", false, where);
    token.strips_left = bool_field(value, "lstrip", false, where);
    token.strips_right = bool_field(value, "rstrip", false, where);
    token.is_normalized = bool_field(value, "normalized", false, where);
    token.is_special = bool_field(value, "special", true, where);
  } else {
    throw_error<DataError>("{}: expected a token as a string or an object, got {}", where, value.type_name());
  }
  return token;
}

// An empty string means no token.
std::optional<AddedToken> parse_role(const Json& config, const char* key) {
  const Json& value = field_or_null(config, key, kFile);
  if (value.is_null()) return std::nullopt;
  AddedToken token = parse_token(value, fmt::format("{}: {}", kFile, key));
  token.is_special = true;
  if (token.content.empty()) return std::nullopt;
  return token;
}

std::optional<bool> parse_flag(const Json& config, const char* key) {
  if (field_or_null(config, key, kFile).is_null()) return std::nullopt;
  return bool_field(config, key, false, kFile);
}

std::vector<AddedTokenWithId> parse_added(const Json& config) {
  std::vector<AddedTokenWithId> added;
  const Json& tokens = field_or_null(config, "added_tokens_decoder", kFile);
  if (tokens.is_null()) return added;
  const std::string where = fmt::format("{}: added_tokens_decoder", kFile);
  if (!tokens.is_object()) throw_error<DataError>("{}: expected an object, got {}", where, tokens.type_name());
  for (const auto& [key, value] : tokens.items()) {
    uint32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size()) {
      throw_error<DataError>("{}: expected token ids as keys, got '{}'", where, key);
    }
    AddedToken token = parse_token(value, fmt::format("{}: {}", where, key));
    if (value.is_object()) token.is_special = bool_field(value, "special", false, where);
    added.push_back({token_id_value(Json(id), where), std::move(token)});
  }
  return added;
}

std::string parse_template(const Json& config) {
  const Json& value = field_or_null(config, "chat_template", kFile);
  if (value.is_null()) return {};
  if (value.is_string()) return value.get<std::string>();
  const std::string where = fmt::format("{}: chat_template", kFile);
  if (!value.is_array()) throw_error<DataError>("{}: expected a string or a list, got {}", where, value.type_name());
  for (const Json& entry : value) {
    std::string source = string_field(entry, "template", where);
    if (string_field(entry, "name", where) == "default") return source;
  }
  return {};
}

}  // namespace

TokenizerConfig parse_tokenizer_config(std::string_view text) {
  TokenizerConfig config;
  if (text.empty()) return config;
  const Json json = parse_json(text, kFile);
  config.bos = parse_role(json, "bos_token");
  config.eos = parse_role(json, "eos_token");
  config.pad = parse_role(json, "pad_token");
  config.unknown = parse_role(json, "unk_token");
  if (!field_or_null(json, "additional_special_tokens", kFile).is_null()) {
    for (const Json& token : array_field(json, "additional_special_tokens", kFile)) {
      config.additional_special.push_back(parse_token(token, fmt::format("{}: additional_special_tokens", kFile)));
    }
  }
  config.added = parse_added(json);
  config.adds_bos = parse_flag(json, "add_bos_token");
  config.adds_eos = parse_flag(json, "add_eos_token");
  config.is_legacy = parse_flag(json, "legacy").value_or(true);
  config.chat_template = parse_template(json);
  return config;
}

}  // namespace plumb
