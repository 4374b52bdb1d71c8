#include "io/records/json_records.hpp"

#include <algorithm>
#include <optional>
#include <string>

#include "lib/base/check.hpp"
#include "lib/base/strict_json.hpp"

namespace plumb {

using json = nlohmann::ordered_json;

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
        // Matching kinds of brackets is left to the parser.
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
  json value = parse_strict_json<json>(bytes, [&](std::optional<size_t> position, const std::string& reason) {
    if (!position) throw_error<DataError>("{}: {}", to_string(place), reason);
    const std::string_view before = bytes.substr(0, std::min(*position, bytes.size()));
    RecordPlace here = place;
    here.line += std::count(before.begin(), before.end(), '\n');
    const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0: the first line
    throw_error<DataError>("{}: column {}: {}", to_string(here), before.size() - line_begin, reason);
  });
  if (!value.is_object()) {
    throw_error<DataError>("{}: expected a JSON object {{...}}, got {}", to_string(place), value.type_name());
  }
  return value;
}

}  // namespace plumb
