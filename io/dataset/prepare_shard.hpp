// One rank's part of preparing data: a range of the rows of all source files through template and tokenizer into a
// shard.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/dataset/dataset_index.hpp"
#include "io/dataset/prepare_options.hpp"
#include "io/records/duplicate_rows.hpp"
#include "io/records/record_file.hpp"

namespace plumb {

/// One file among all: its rows are [first_row, first_row + index.num_records) of the whole.
struct SourceFile {
  std::string path;
  int64_t first_row = 0;
  RecordIndex index;
};

struct ShardPart {
  ShardEntry entry;
  PrepareStatistics statistics;
  std::vector<int64_t> rows_of_files;  // kept rows of each file
  std::vector<RowFingerprint> prints;  // of the kept rows, if they are pairs
  /// Columns that the first row of their file lacks and no shape uses, and the first row that has them.
  std::map<std::string, std::string> new_columns;
  /// Options that rows give to the template, which does not read them, and a row that has each.
  std::map<std::string, std::string> unread_options;
};

/// Whether rows are pairs or rows to fine-tune on, by the shape of the first one.
RowUse find_row_use(const SourceFile& file, const PrepareOptions& options);

/// "train.csv:12" of each of these rows of all files, which ascend.
std::vector<std::string> places_of_rows(const std::vector<SourceFile>& files, std::span<const int64_t> rows);

/// The `part`-th of `num_parts` contiguous, equal parts of all rows, into a shard in `directory`; options.use is not
/// kAny. Throws DataError naming file, line and row; UsageError where options do not fit the rows; InputOutputError.
ShardPart write_shard(const std::vector<SourceFile>& files, const PrepareOptions& options, const std::string& directory,
                      int part, int num_parts);

}  // namespace plumb
