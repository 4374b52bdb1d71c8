#include "io/file/json_tolerant.hpp"

#include "io/file/file.hpp"

namespace plumb {
namespace {

constexpr int64_t kMaxBytes = 64 << 20;
constexpr double kMaxCount = 1e18;

}  // namespace

const OrderedJson& get_or_null(const OrderedJson& object, const char* key) {
  static const OrderedJson null;
  if (!object.is_object()) return null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

std::optional<double> get_number(const OrderedJson& object, const char* key) {
  const OrderedJson& value = get_or_null(object, key);
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}

int64_t get_count(const OrderedJson& object, const char* key) {
  const double value = get_number(object, key).value_or(0);
  return value > 0 && value < kMaxCount ? static_cast<int64_t>(value) : 0;
}

std::string get_text(const OrderedJson& object, const char* key) {
  const OrderedJson& value = get_or_null(object, key);
  return value.is_string() ? value.get<std::string>() : "";
}

OrderedJson read_json_file(const std::string& path, std::vector<std::string>& problems) {
  if (!is_regular_file(path)) return nullptr;
  try {
    return OrderedJson::parse(read_text_file(path, kMaxBytes));
  } catch (const std::exception& error) {
    problems.push_back(path + ": " + error.what());
    return nullptr;
  }
}

}  // namespace plumb
