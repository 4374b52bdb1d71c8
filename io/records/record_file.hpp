// A data file as a sequence of JSON objects: a table, JSON Lines, a JSON array or Parquet. Text is scanned once for the
// offsets of records; then any rank can read from any record on, in memory that does not grow with the file.
// Source: RFC 4180, RFC 8259, jsonlines.org.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/records/parquet.hpp"
#include "io/records/record_format.hpp"
#include "io/records/record_scanner.hpp"

namespace plumb {

/// The offsets of every kStride-th record, so that the index of a billion rows still fits a message.
struct RecordIndex {
  static constexpr int64_t kStride = 1024;

  FileFormat format;
  int64_t num_records = 0;
  int64_t file_bytes = 0;           // of the file, compressed or not
  int64_t text_bytes = 0;           // of its text, decompressed; 0 for Parquet, as for the next three
  std::vector<std::string> header;  // column names of a table, in file order; otherwise empty
  std::vector<int64_t> offsets;     // in the text, of records 0, kStride, 2 * kStride, ...
  std::vector<int64_t> lines;       // 1-based lines of the same records

  bool operator==(const RecordIndex&) const = default;

  /// Serializes for a broadcast between ranks on machines of one type.
  std::string to_bytes() const;
  /// Throws DataError for bytes that to_bytes() did not write.
  static RecordIndex from_bytes(std::string_view bytes);
};

/// Reads the whole text once, front to back, to find the ends of records; does not parse them. Of Parquet only the
/// metadata. Throws InputOutputError, and DataError for a file without rows, an invalid header, or a record that never
/// ends or exceeds kMaxRecordBytes.
RecordIndex index_records(const std::string& path);

struct Record {
  int64_t record = 0;             // 0-based row of the file
  int64_t line = 0;               // 1-based, of its first byte; 0 in Parquet
  nlohmann::ordered_json object;  // keys in the order of the file, as chat templates print them
};

/// Reads records in sequence. Cells of a table become strings under their column names.
class RecordReader {
 public:
  /// Starts before record 0. Throws DataError if the size of the file differs from that of the indexed file.
  RecordReader(const std::string& path, RecordIndex index);

  /// Moves to `record` in [0, num_records]; skips up to kStride - 1 records on the way, in Parquet those of a row
  /// group.
  void seek(int64_t record);

  /// Returns nullopt after the last record. Throws DataError with line and row for a malformed record.
  std::optional<Record> next();

  /// "train.csv:12: row 10" or "train.parquet: row 10", for messages about the contents of a record.
  std::string where(const Record& record) const;

  const RecordIndex& index() const { return index_; }

 private:
  void check_size(int64_t file_bytes) const;
  RawRecord next_raw();
  nlohmann::ordered_json parse(const RawRecord& raw);
  nlohmann::ordered_json parse_table_row(const RawRecord& raw);

  std::string path_;
  RecordIndex index_;
  std::optional<ParquetFile> parquet_;
  std::optional<RecordScanner> scanner_;  // of text
  int64_t next_record_ = 0;
  std::vector<std::string> cells_;
};

}  // namespace plumb
