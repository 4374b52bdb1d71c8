#include "lib/model/config_json.hpp"

#include <optional>

#include "lib/base/check.hpp"
#include "lib/base/strict_json.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr size_t kMaxQuotedChars = 80;

std::string shortened(std::string text, size_t max_chars) {
  if (text.size() <= max_chars) return text;
  while (max_chars > 0 && (static_cast<unsigned char>(text[max_chars]) & 0xc0) == 0x80) --max_chars;
  return text.substr(0, max_chars) + "...";
}

}  // namespace

json parse_config_object(std::string_view text, std::string_view where) {
  json value = parse_strict_json<json>(text, [&](std::optional<size_t> position, const std::string& reason) {
    if (position) throw_error<DataError>("{}: byte {}: {}", where, *position, reason);
    throw_error<DataError>("{}: {}", where, reason);
  });
  if (!value.is_object()) throw_error<DataError>("{}: expected a JSON object, got {}", where, quote_json(value));
  return value;
}

std::string quote_json(const json& value) {
  if (value.is_structured() && value.size() > 16)
    return fmt::format("{} of {} elements", value.is_array() ? "an array" : "an object", value.size());
  return shortened(value.dump(-1, ' ', false, json::error_handler_t::replace), kMaxQuotedChars);
}

void ConfigReader::fail(const char* key, std::string_view expected) const {
  const std::string got = has(key) ? quote_json(object_.at(key)) : "no such key";
  throw_error<DataError>("{}: {}: expected {}, got {}", where_, key, expected, got);
}

std::vector<std::string> ConfigReader::unread() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object_.items())
    if (!read_.contains(key)) keys.push_back(key);
  return keys;
}

int64_t ConfigReader::integer(const char* key, int64_t low, int64_t high) const {
  read_.insert(key);
  const auto found = object_.find(key);
  if (found != object_.end() && found->is_number_integer()) {
    // an unsigned number beyond the signed range would convert to a negative one, so it is compared as unsigned
    const bool is_huge = found->is_number_unsigned() && found->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
    const int64_t value = found->get<int64_t>();
    if (!is_huge && value >= low && value <= high) return value;
  }
  fail(key, fmt::format("a whole number from {} to {}", low, high));
}

int64_t ConfigReader::integer_or(const char* key, int64_t low, int64_t high, int64_t fallback) const {
  return has(key) ? integer(key, low, high) : fallback;
}

double ConfigReader::number(const char* key, double low, double high) const {
  read_.insert(key);
  const auto found = object_.find(key);
  if (found != object_.end() && found->is_number()) {
    const double value = found->get<double>();
    if (value >= low && value <= high) return value;
  }
  fail(key, fmt::format("a number from {} to {}", low, high));
}

double ConfigReader::number_or(const char* key, double low, double high, double fallback) const {
  return has(key) ? number(key, low, high) : fallback;
}

bool ConfigReader::boolean_or(const char* key, bool fallback) const {
  if (!has(key)) return fallback;
  if (!object_.at(key).is_boolean()) fail(key, "true or false");
  return object_.at(key).get<bool>();
}

std::string ConfigReader::string(const char* key) const {
  if (!has(key) || !object_.at(key).is_string()) fail(key, "a string");
  return object_.at(key).get<std::string>();
}

std::string ConfigReader::string_or(const char* key, std::string fallback) const {
  return has(key) ? string(key) : std::move(fallback);
}

}  // namespace plumb
