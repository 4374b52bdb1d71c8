// One pass over a data file in bounded memory: finds the begin and end of each record in every format. Does not parse
// the contents of records; io/records/record_file.hpp does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/records/csv.hpp"
#include "io/records/json_records.hpp"
#include "io/records/record_place.hpp"

namespace plumb {

enum class RecordFormat : int64_t { kCsv = 0, kTsv = 1, kJsonLines = 2, kJsonArray = 3 };

/// "CSV", "TSV", "JSON Lines", "JSON array".
std::string_view name_of(RecordFormat format);

constexpr bool is_table(RecordFormat format) { return format == RecordFormat::kCsv || format == RecordFormat::kTsv; }
constexpr char delimiter_of(RecordFormat format) { return format == RecordFormat::kTsv ? '\t' : ','; }

inline constexpr int64_t kMaxRecordBytes = int64_t{16} << 20;

/// Reads a file front to back through one buffer that grows up to the size of a record.
class FileWindow {
 public:
  /// Throws InputOutputError, also if the path is not a regular file.
  explicit FileWindow(std::string path);
  ~FileWindow();
  FileWindow(FileWindow&& other) noexcept;
  FileWindow(const FileWindow&) = delete;
  FileWindow& operator=(const FileWindow&) = delete;
  FileWindow& operator=(FileWindow&&) = delete;

  const std::string& path() const { return path_; }
  int64_t size_bytes() const { return size_bytes_; }
  /// Offset in the file of the first byte of bytes().
  int64_t offset() const { return offset_; }
  /// Valid until the next call that is not const.
  std::string_view bytes() const { return {buffer_.data() + begin_, end_ - begin_}; }

  void seek(int64_t offset);
  /// Drops the first `num_bytes` of bytes().
  void consume(size_t num_bytes);
  /// Appends to bytes(), keeping its contents. False at the end of the file.
  bool read_more();

 private:
  std::string path_;
  int descriptor_ = -1;
  int64_t size_bytes_ = 0;
  int64_t offset_ = 0;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

struct RawRecord {
  RecordPlace place;       // path is valid as long as the scanner
  int64_t offset = 0;      // within the file
  std::string_view bytes;  // without line end; valid until the scanner moves
};

class RecordScanner {
 public:
  /// Starts before the first record, which in a table is the header, record -1. Throws InputOutputError, and DataError
  /// if the first bytes show that the text is not UTF-8.
  RecordScanner(const std::string& path, RecordFormat format);

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
