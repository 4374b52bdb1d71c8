// JSON from elsewhere, read strictly: bounded depth and count, no key twice, nothing after the value. The
// parser's own builder keeps the last of two equal keys and any depth, and it takes a NUL byte for the end. Source: RFC
// 8259.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plumb {

inline constexpr size_t kMaxJsonDepth = 64;
/// The limit of one text: a value may be two bytes long and takes up to a hundred of memory.
inline constexpr size_t kMaxJsonValues = 10'000'000;
/// The limit of an object that keeps the order of its keys, as it searches all of them for each new one.
inline constexpr size_t kMaxOrderedJsonKeys = 4096;

/// The reason inside a message of nlohmann-json, which repeats the token it stopped at in full.
std::string short_json_reason(std::string_view message);

/// Follows the parser event by event. `fail`, which must throw, takes the byte where the text is no JSON, or nothing,
/// and what was expected and what was got.
template <class Json, class Fail>
class StrictJsonBuilder : public nlohmann::json_sax<Json> {
 public:
  using typename nlohmann::json_sax<Json>::number_integer_t;
  using typename nlohmann::json_sax<Json>::number_unsigned_t;
  using typename nlohmann::json_sax<Json>::number_float_t;
  using typename nlohmann::json_sax<Json>::string_t;
  using typename nlohmann::json_sax<Json>::binary_t;

  explicit StrictJsonBuilder(const Fail& fail) : fail_(fail) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto& object = containers_.back()->template get_ref<typename Json::object_t&>();
    if (std::is_same_v<Json, nlohmann::ordered_json> && object.size() == kMaxOrderedJsonKeys)
      fail_(std::nullopt, fmt::format("expected at most {} keys of an object, got more", kMaxOrderedJsonKeys));
    const auto [slot, is_new] = object.emplace(name, nullptr);
    if (!is_new) {
      constexpr size_t kMaxQuotedBytes = 120;
      const bool is_long = name.size() > kMaxQuotedBytes;
      fail_(std::nullopt, fmt::format("expected keys that differ, got \"{}{}\" twice", name.substr(0, kMaxQuotedBytes),
                                      is_long ? "..." : ""));
    }
    slot_ = &slot->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    fail_(position, "expected JSON, got " + short_json_reason(error.what()));
    return false;
  }

 private:
  Json* place(Json value) {
    if (++num_values_ > kMaxJsonValues)
      fail_(std::nullopt, fmt::format("expected at most {} values, got more", kMaxJsonValues));
    if (containers_.empty()) return &(root_ = std::move(value));
    Json& parent = *containers_.back();
    if (parent.is_object()) return &(*slot_ = std::move(value));
    parent.push_back(std::move(value));
    return &parent.back();
  }
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json container) {
    if (containers_.size() == kMaxJsonDepth)
      fail_(std::nullopt, fmt::format("expected at most {} levels of nesting, got more", kMaxJsonDepth));
    containers_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    containers_.pop_back();
    return true;
  }

  const Fail& fail_;
  Json root_;
  size_t num_values_ = 0;
  std::vector<Json*> containers_;  // open objects and arrays, outermost first
  Json* slot_ = nullptr;           // where the value of the last key goes
};

/// Json: nlohmann::json, or ordered_json. Throws what `fail` throws, see StrictJsonBuilder.
template <class Json, class Fail>
Json parse_strict_json(std::string_view text, const Fail& fail) {
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) fail(nul, "expected JSON, got a NUL byte");
  StrictJsonBuilder<Json, Fail> builder(fail);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace plumb
