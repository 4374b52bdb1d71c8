// The location of a record in its data file, which begins every message about the record.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace plumb {

struct RecordPlace {
  std::string_view path;
  int64_t line = 1;    // 1-based, of the record's first byte
  int64_t record = 0;  // 0-based row of the file; -1 is the header of a table
};

/// "train.csv:12: row 10", or "train.csv:1: header".
inline std::string to_string(const RecordPlace& place) {
  if (place.record < 0) return fmt::format("{}:{}: header", place.path, place.line);
  return fmt::format("{}:{}: row {}", place.path, place.line, place.record);
}

}  // namespace plumb
