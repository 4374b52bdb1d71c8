// The format of a data file: a table of cells with a separator, JSON Lines, a JSON array or Parquet; plain or
// compressed. The name of a file says what it is meant to be, and its first bytes what it is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "io/records/decompressor.hpp"

namespace plumb {

enum class RecordFormat : int64_t { kTable = 0, kJsonLines = 1, kJsonArray = 2, kParquet = 3 };

struct FileFormat {
  RecordFormat records = RecordFormat::kJsonLines;
  char separator = ',';  // of a table
  Compression compression = Compression::kNone;

  bool operator==(const FileFormat&) const = default;
};

/// "CSV", "TSV", "CSV separated by ;", "JSON Lines", "JSON array", "Parquet"; followed by ", gzip" or ", zstd".
std::string describe(const FileFormat& format);
/// "comma", "tab", "semicolon".
std::string_view name_of_separator(char separator);

/// The name may end in .csv .tsv .jsonl .ndjson .json .parquet, followed by .gz or .zst; otherwise the contents decide.
/// They also decide how the cells of a table are separated and whether JSON is an array or lines. Throws DataError if
/// neither identifies the format, if the contents are not what the name says, and for compressed Parquet;
/// InputOutputError.
FileFormat find_file_format(const std::string& path);

}  // namespace plumb
