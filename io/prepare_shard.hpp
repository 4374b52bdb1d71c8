// One rank's part of preparing data: a range of the rows of all source files through template and tokenizer into a
// shard.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/dataset_index.hpp"
#include "io/prepare.hpp"
#include "io/record_file.hpp"

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
};

/// The `part`-th of `num_parts` contiguous, equal parts of all rows, into a shard in `directory`. Throws DataError
/// naming file, line and row; UsageError where options do not fit the rows; InputOutputError.
ShardPart write_shard(const std::vector<SourceFile>& files, const PrepareOptions& options, const std::string& directory,
                      int part, int num_parts);

}  // namespace plumb
