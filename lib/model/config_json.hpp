// Reads untrusted JSON configuration strictly: one object, no duplicate keys, bounded depth, every value checked for
// type and range. Errors state the key, what was expected and what was found.
// Source: RFC 8259.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// As parse_strict_json(). Throws DataError, naming `where`, unless `text` is one object.
nlohmann::json parse_config_object(std::string_view text, std::string_view where);

/// A value as shown in a message: JSON, shortened.
std::string quote_json(const nlohmann::json& value);

/// Reads the keys of one object; keeps a reference to it. `where` begins every message: "config.json" or "config.json:
/// rope_parameters". A key without a fallback is required. A key with the value null counts as present.
class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {}

  /// Every key that this object was asked for, here or below, counts as read.
  bool has(const char* key) const {
    read_.insert(key);
    return object_.contains(key);
  }
  bool is_null_or_absent(const char* key) const { return !has(key) || object_.at(key).is_null(); }

  /// An integer in [low, high]; 8.0 is not an integer.
  int64_t integer(const char* key, int64_t low, int64_t high) const;
  int64_t integer_or(const char* key, int64_t low, int64_t high, int64_t fallback) const;
  /// A finite number in [low, high].
  double number(const char* key, double low, double high) const;
  double number_or(const char* key, double low, double high, double fallback) const;
  bool boolean_or(const char* key, bool fallback) const;
  std::string string(const char* key) const;
  std::string string_or(const char* key, std::string fallback) const;

  /// The keys of the object that nobody asked for, in order.
  std::vector<std::string> unread() const;

  const nlohmann::json& object() const { return object_; }
  const std::string& where() const { return where_; }

  /// Throws DataError: "where: key: expected E, got G".
  [[noreturn]] void fail(const char* key, std::string_view expected) const;

 private:
  const nlohmann::json& object_;
  std::string where_;
  mutable std::set<std::string, std::less<>> read_;
};

}  // namespace plumb
