#include "io/json_records.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

using nlohmann::json;

/// The reason inside a message of nlohmann-json, which repeats the token it stopped at in full.
std::string short_reason(std::string_view message) {
  constexpr size_t kMaxBytes = 160;
  // "[json.exception.parse_error.101] parse error at line 1, column 9: syntax error while parsing value - REASON"
  for (const std::string_view mark : {"] ", "syntax error while parsing ", " - "}) {
    const size_t at = message.substr(0, kMaxBytes).find(mark);
    if (at != std::string_view::npos) message.remove_prefix(at + mark.size());
  }
  if (message.size() <= kMaxBytes) return std::string(message);
  size_t end = kMaxBytes;
  while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xC0) == 0x80) --end;
  return std::string(message.substr(0, end)) + "...";
}

/// Builds the value from the parser's events. The stock builder keeps the last of two equal keys and any depth.
class StrictBuilder : public nlohmann::json_sax<json> {
 public:
  StrictBuilder(std::string_view bytes, const RecordPlace& place) : bytes_(bytes), place_(place) {}

  json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const auto [slot, is_new] = containers_.back()->get_ref<json::object_t&>().try_emplace(name, nullptr);
    if (!is_new) throw_error<DataError>("{}: expected keys that differ, got \"{}\" twice", to_string(place_), name);
    slot_ = &slot->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    const std::string_view before = bytes_.substr(0, std::min(position, bytes_.size()));
    RecordPlace place = place_;
    place.line += std::count(before.begin(), before.end(), '\n');
    const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0: the first line
    throw_error<DataError>("{}: column {}: expected JSON, got {}", to_string(place), before.size() - line_begin,
                           short_reason(error.what()));
  }

 private:
  json* place_value(json value) {
    if (containers_.empty()) return &(root_ = std::move(value));
    json& parent = *containers_.back();
    if (parent.is_object()) return &(*slot_ = std::move(value));
    parent.push_back(std::move(value));
    return &parent.back();
  }
  bool add(json value) {
    place_value(std::move(value));
    return true;
  }
  bool open(json container) {
    if (containers_.size() == kMaxJsonDepth) {
      throw_error<DataError>("{}: expected at most {} levels of nesting, got more", to_string(place_), kMaxJsonDepth);
    }
    containers_.push_back(place_value(std::move(container)));
    return true;
  }
  bool close() {
    containers_.pop_back();
    return true;
  }

  std::string_view bytes_;
  const RecordPlace& place_;
  json root_;
  std::vector<json*> containers_;  // open objects and arrays, outermost first
  json* slot_ = nullptr;           // where the value of the last key goes
};

}  // namespace

size_t JsonObjectEnd::find(std::string_view bytes) {
  size_t i = num_seen_bytes_;
  while (i < bytes.size()) {
    if (is_in_string_) {
      const size_t quote = bytes.find('"', i);
      if (quote == std::string_view::npos) {
        i = bytes.size();
        break;
      }
      // An odd run of backslashes escapes the quote. Runs never overlap: each ends at its own quote.
      const size_t before = bytes.substr(0, quote).find_last_not_of('\\');
      is_in_string_ = (quote - before - 1) % 2 == 1;
      i = quote + 1;
      continue;
    }
    switch (bytes[i++]) {
      case '"':
        is_in_string_ = true;
        break;
      case '{':
      case '[':
        ++depth_;
        break;
      case '}':
      case ']':
        // The kinds of bracket are compared by the parser.
        if (depth_ <= 1) return i;
        --depth_;
        break;
      default:
        break;
    }
  }
  num_seen_bytes_ = i;
  return 0;
}

json parse_json_object(std::string_view bytes, const RecordPlace& place) {
  StrictBuilder builder(bytes, place);
  json::sax_parse(bytes.begin(), bytes.end(), &builder);
  json value = builder.take();
  if (!value.is_object()) {
    throw_error<DataError>("{}: expected a JSON object {{...}}, got {}", to_string(place), value.type_name());
  }
  return value;
}

}  // namespace plumb
