// Values of Apache Arrow's arrays as JSON, as `datasets` writes rows: structs are objects, lists are arrays, dates and
// timestamps are milliseconds since 1970, decimals are text, and numbers that are not finite are null. Compiled only
// where CMake finds Arrow.
#pragma once

#include <arrow/type_fwd.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace plumb {

/// Throws DataError, naming file and column, unless all columns have types that JSON has, names that differ, and at
/// most kMaxJsonDepth levels.
void check_schema(const arrow::Schema& schema, const std::string& path);

/// Converts the rows of batches whose schema has passed check_schema().
class ArrowRows {
 public:
  /// The row of a batch as an object; `where` begins messages. Throws DataError for text that is not UTF-8, columns of
  /// JSON that hold none, and a row of more than kMaxRecordBytes.
  nlohmann::ordered_json row(const arrow::RecordBatch& batch, int64_t row, const std::string& where);

 private:
  nlohmann::ordered_json value(const arrow::Array& array, int64_t index);
  nlohmann::ordered_json list(const arrow::Array& values, int64_t begin, int64_t size);
  nlohmann::ordered_json text(std::string_view text);
  nlohmann::ordered_json parsed(std::string_view text);
  nlohmann::ordered_json milliseconds(int64_t value, int64_t factor, int64_t divisor);
  void count(size_t num_bytes);

  const std::string* where_ = nullptr;
  int64_t num_bytes_ = 0;  // of the row so far
};

}  // namespace plumb
