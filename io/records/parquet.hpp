// Rows of Parquet, the format in which the Hugging Face Hub serves data, as JSON objects, through the C++ library of
// Apache Arrow. CMake compiles parquet.cpp where it finds that library, else parquet_absent.cpp, which refuses files
// with what to install.
//
// Arrow parses metadata, pages and encodings, and is trusted to refuse what is malformed (it is fuzzed by OSS-Fuzz).
// The arrays that it returns are checked here: types, nesting, names, UTF-8, and the size of a row.
// Source: the specification of Apache Parquet.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace plumb {

class ParquetFile {
 public:
  /// Reads the metadata. Throws InputOutputError; DataError for a file that is no Parquet, or a column of a type that
  /// JSON lacks (binary, decimal, time of day, duration, ...), by name; UsageError without Arrow.
  explicit ParquetFile(const std::string& path);
  ~ParquetFile();
  ParquetFile(ParquetFile&& other) noexcept;
  ParquetFile(const ParquetFile&) = delete;
  ParquetFile& operator=(const ParquetFile&) = delete;
  ParquetFile& operator=(ParquetFile&&) = delete;

  int64_t num_rows() const;
  int64_t size_bytes() const;

  /// Moves to row `row` in [0, num_rows()); reads and drops the rows of its row group before it.
  void seek(int64_t row);

  /// The next row; there must be one. Structs are objects, lists are arrays, dates and timestamps are milliseconds
  /// since 1970, and numbers that are not finite are null, all as `datasets` writes JSON. Throws DataError for damaged
  /// data.
  nlohmann::ordered_json next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace plumb
