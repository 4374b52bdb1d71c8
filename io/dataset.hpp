// The rows of a prepared directory, by number: the kept rows of the source files in their order, whichever shards they
// are in. Reading takes the memory of a row and of a chunk per open shard, however large the corpus is.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "io/dataset_index.hpp"
#include "io/token_shard.hpp"

namespace plumb {

class Dataset {
 public:
  /// Opens every shard once and checks sizes and offsets. Token ids must lie in [0, vocab_size); 0: any. Throws
  /// InputOutputError, DataError.
  explicit Dataset(const std::string& directory, int64_t vocab_size = 0);

  const std::string& directory() const { return directory_; }
  const DatasetIndex& index() const { return index_; }
  const ShardFormat& format() const { return format_; }
  int64_t num_rows() const { return first_row_.back(); }

  /// Rows [begin, end) laid end to end, from any thread. Throws DataError where the file is damaged.
  TokenRows rows(int64_t begin, int64_t end) const;
  TokenRows row(int64_t row) const { return rows(row, row + 1); }

 private:
  struct OpenShard {
    size_t shard;
    TokenShardReader reader;
  };
  TokenShardReader open(size_t shard) const;
  const TokenShardReader& reader_of(size_t shard) const;

  std::string directory_;
  int64_t vocab_size_;
  DatasetIndex index_;
  ShardFormat format_;
  std::vector<int64_t> first_row_;  // of each shard, then the number of rows
  mutable std::mutex mutex_;
  mutable std::deque<OpenShard> open_shards_;  // last used first
};

}  // namespace plumb
