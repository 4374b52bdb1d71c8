// One pass over the text of a data file in bounded memory: finds the begin and end of each record of a table or of
// JSON. Does not parse the contents of records; io/records/record_file.hpp does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "io/records/csv.hpp"
#include "io/records/file_window.hpp"
#include "io/records/json_records.hpp"
#include "io/records/record_format.hpp"
#include "io/records/record_place.hpp"

namespace plumb {

inline constexpr int64_t kMaxRecordBytes = int64_t{16} << 20;

struct RawRecord {
  RecordPlace place;       // path is valid as long as the scanner
  int64_t offset = 0;      // within the text of the file
  std::string_view bytes;  // without line end; valid until the scanner moves
};

class RecordScanner {
 public:
  /// Starts before the first record, which in a table is the header, record -1. Throws InputOutputError, and DataError
  /// if the first bytes show that the text is not UTF-8.
  RecordScanner(const std::string& path, const FileFormat& format);

  /// Returns the next record that is not blank. Throws DataError for a record that never ends or exceeds
  /// kMaxRecordBytes, and for a broken JSON array. Must not be called after the last record.
  std::optional<RawRecord> next();

  /// Moves to the first byte of record `record`, as given by an earlier RawRecord.
  void seek(int64_t record, int64_t offset, int64_t line);

  const FileWindow& window() const { return window_; }

 private:
  std::optional<RawRecord> next_line();
  std::optional<RawRecord> next_element();
  RawRecord emit(size_t num_bytes, size_t num_line_end_bytes);
  char peek();
  bool is_table() const { return format_ == RecordFormat::kTable; }
  RecordPlace place() const { return {window_.path(), line_, record_}; }
  void check_length(size_t num_bytes) const;
  bool read_more();

  FileWindow window_;
  RecordFormat format_;
  CsvRecordEnd csv_end_;
  JsonObjectEnd json_end_;
  int64_t record_ = 0;
  int64_t line_ = 1;
  size_t num_emitted_bytes_ = 0;  // of bytes(), still in use by the caller
  int64_t num_emitted_lines_ = 0;
  bool is_at_element_ = false;  // JSON array: at an element, after seek()
  bool is_at_array_ = false;    // JSON array: before its opening bracket
};

}  // namespace plumb
