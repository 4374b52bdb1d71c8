// A data file as a sequence of JSON objects: CSV, TSV, JSON Lines or a JSON array. It is scanned once for where records
// begin; after that any rank reads from any record on, in memory that does not grow with the file.
// Source: RFC 4180, RFC 8259, jsonlines.org.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/records/record_scanner.hpp"

namespace plumb {

/// Where records begin: every kStride-th one, so that an index of a billion rows still fits a message.
struct RecordIndex {
  static constexpr int64_t kStride = 1024;

  RecordFormat format = RecordFormat::kJsonLines;
  int64_t num_records = 0;
  int64_t file_bytes = 0;
  std::vector<std::string> header;  // of a table, in file order; else empty
  std::vector<int64_t> offsets;     // of records 0, kStride, 2 * kStride, ...
  std::vector<int64_t> lines;       // 1-based, of the same records

  bool operator==(const RecordIndex&) const = default;

  /// For a broadcast between ranks of one machine type.
  std::string to_bytes() const;
  /// Throws DataError on bytes that to_bytes() did not write.
  static RecordIndex from_bytes(std::string_view bytes);
};

/// By the extension (.csv .tsv .jsonl .ndjson .json), else by the first bytes. Throws DataError where neither tells.
RecordFormat find_record_format(const std::string& path);

/// Reads the whole file once, front to back. Looks at where records end, not into them. Throws InputOutputError, and
/// DataError for a file without rows, a bad header, a record that never ends or is longer than kMaxRecordBytes.
RecordIndex index_records(const std::string& path);

struct Record {
  int64_t record = 0;  // 0-based row of the file
  int64_t line = 0;    // 1-based, of its first byte
  nlohmann::json object;
};

/// Reads records one after another. Cells of a table become strings under their column's name.
class RecordReader {
 public:
  /// Stands before record 0. Throws DataError if the file is not the one that was indexed, by its size.
  RecordReader(const std::string& path, RecordIndex index);

  /// To `record` in [0, num_records]; skips up to kStride - 1 records.
  void seek(int64_t record);

  /// Nothing after the last record. Throws DataError, naming line and row, on what is malformed.
  std::optional<Record> next();

  /// "train.csv:12: row 10", for messages about what a record holds.
  std::string where(const Record& record) const;

  const RecordIndex& index() const { return index_; }

 private:
  RawRecord next_raw();
  nlohmann::json parse_table_row(const RawRecord& raw);

  RecordIndex index_;
  RecordScanner scanner_;
  int64_t next_record_ = 0;
  std::vector<std::string> cells_;
};

}  // namespace plumb
