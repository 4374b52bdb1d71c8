// Typed reads from parsed JSON whose errors name file, field, expected and got.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace plumb {

using Json = nlohmann::json;

/// As parse_strict_json(). Throws DataError naming `file` and the byte offset.
Json parse_json(std::string_view text, std::string_view file);

/// The field `key`, or null where it is absent. Throws DataError unless `object` is an object.
const Json& field_or_null(const Json& object, const char* key, std::string_view where);

/// The fields throw DataError on another type, and without a default also where the field is absent.
bool bool_field(const Json& object, const char* key, bool default_value, std::string_view where);
std::string string_field(const Json& object, const char* key, std::string_view where);
std::optional<std::string> optional_string_field(const Json& object, const char* key, std::string_view where);
const Json& array_field(const Json& object, const char* key, std::string_view where);

/// A token id: an integer within [0, kMaxVocabSize).
constexpr int32_t kMaxVocabSize = 1 << 21;
int32_t token_id_value(const Json& value, std::string_view where);

}  // namespace plumb
