// JSON training data: one object per record, alone on a line (JSON Lines) or as an element of an array.
// Source: RFC 8259, jsonlines.org.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

#include "io/records/record_place.hpp"

namespace plumb {

/// Finds the end of one object in bytes that arrive in pieces. Looks at brackets and strings only.
class JsonObjectEnd {
 public:
  /// Forgets the previous object.
  void reset() { *this = JsonObjectEnd(); }

  /// `bytes` starts at the object's brace and extends what the last call saw. Returns the size of the object, or 0 if
  /// the bytes end before the object does.
  size_t find(std::string_view bytes);

 private:
  size_t num_seen_bytes_ = 0;
  size_t depth_ = 0;
  bool is_in_string_ = false;
};

/// As parse_strict_json(). Throws DataError with line and column if the record is not JSON or not an object.
nlohmann::ordered_json parse_json_object(std::string_view bytes, const RecordPlace& place);

}  // namespace plumb
