#include "lib/base/json_fields.hpp"

#include "lib/base/check.hpp"
#include "lib/base/strict_json.hpp"

namespace plumb {

Json parse_json(std::string_view text, std::string_view file) {
  return parse_strict_json<Json>(text, [&](std::optional<size_t> position, const std::string& reason) {
    if (position) throw_error<DataError>("{}: byte {}: {}", file, *position, reason);
    throw_error<DataError>("{}: {}", file, reason);
  });
}

const Json& field_or_null(const Json& object, const char* key, std::string_view where) {
  static const Json null;
  if (!object.is_object()) throw_error<DataError>("{}: expected an object, got {}", where, object.type_name());
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

[[noreturn]] static void throw_type(const Json& value, const char* key, std::string_view expected,
                                    std::string_view where) {
  throw_error<DataError>("{}: {}: expected {}, got {}", where, key, expected, value.type_name());
}

bool bool_field(const Json& object, const char* key, bool default_value, std::string_view where) {
  const Json& value = field_or_null(object, key, where);
  if (value.is_null()) return default_value;
  if (!value.is_boolean()) throw_type(value, key, "true or false", where);
  return value.get<bool>();
}

std::string string_field(const Json& object, const char* key, std::string_view where) {
  const Json& value = field_or_null(object, key, where);
  if (!value.is_string()) throw_type(value, key, "a string", where);
  return value.get<std::string>();
}

std::optional<std::string> optional_string_field(const Json& object, const char* key, std::string_view where) {
  if (field_or_null(object, key, where).is_null()) return std::nullopt;
  return string_field(object, key, where);
}

const Json& array_field(const Json& object, const char* key, std::string_view where) {
  const Json& value = field_or_null(object, key, where);
  if (!value.is_array()) throw_type(value, key, "an array", where);
  return value;
}

int32_t token_id_value(const Json& value, std::string_view where) {
  const bool is_in_range =
      value.is_number_integer() &&
      (value.is_number_unsigned() ? value.get<uint64_t>() < uint64_t{kMaxVocabSize}
                                  : value.get<int64_t>() >= 0 && value.get<int64_t>() < int64_t{kMaxVocabSize});
  if (!is_in_range) {
    throw_error<DataError>("{}: expected a token id, an integer from 0 to {}, got {}", where, kMaxVocabSize - 1,
                           value.is_number() ? value.dump() : value.type_name());
  }
  return value.get<int32_t>();
}

}  // namespace plumb
