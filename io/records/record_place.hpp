// The location of a record in its data file, which begins every message about the record.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace plumb {

struct RecordPlace {
  std::string_view path;
  int64_t line = 1;    // 1-based, of the record's first byte; 0 where a file has no lines
  int64_t record = 0;  // 0-based row of the file; -1 is the header of a table
};

/// "train.csv:12: row 10", "train.csv:1: header", or "train.parquet: row 10".
inline std::string to_string(const RecordPlace& place) {
  if (place.line == 0) return fmt::format("{}: row {}", place.path, place.record);
  if (place.record < 0) return fmt::format("{}:{}: header", place.path, place.line);
  return fmt::format("{}:{}: row {}", place.path, place.line, place.record);
}

/// "train.csv:12", or "train.parquet: row 10": enough to find the record.
inline std::string short_place(const RecordPlace& place) {
  return place.line == 0 ? to_string(place) : fmt::format("{}:{}", place.path, place.line);
}

}  // namespace plumb
