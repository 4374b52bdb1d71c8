// Prepared directories of made-up rows for tests, without tokenizer or MPI.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "io/dataset_index.hpp"
#include "io/file.hpp"
#include "io/sha256.hpp"
#include "io/token_shard.hpp"

namespace plumb {

struct MadeRow {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> loss_mask;
};

/// Row i has 1 + 7 i % 13 tokens that tell it from others; every third token is trained.
inline MadeRow made_row(int64_t i) {
  MadeRow row;
  for (int64_t t = 0; t < 1 + 7 * i % 13; ++t) {
    row.tokens.push_back(static_cast<int32_t>((31 * i + t) % 1000));
    row.loss_mask.push_back((i + t) % 3 == 0 ? 1 : 0);
  }
  return row;
}

/// Rows are numbered 2 i, as if every other source row had been dropped.
inline ShardEntry write_made_shard(const std::string& directory, const std::string& name, int64_t begin, int64_t end) {
  const std::string path = join_path(directory, name);
  TokenShardWriter writer(path);
  for (int64_t i = begin; i < end; ++i) {
    const MadeRow row = made_row(i);
    writer.append(row.tokens, row.loss_mask, 2 * i);
  }
  writer.finish();
  return {name, writer.num_rows(), writer.num_tokens(), File::open_for_reading(path).size_bytes(),
          sha256_of_file(path)};
}

/// Shards of these numbers of rows, with an index.
inline DatasetIndex write_made_dataset(const std::string& directory, const std::vector<int64_t>& rows_of_shards) {
  DatasetIndex index;
  index.kind = kSftKind;
  index.key = "made";
  int64_t begin = 0;
  for (size_t shard = 0; shard < rows_of_shards.size(); ++shard) {
    const int64_t end = begin + rows_of_shards[shard];
    index.shards.push_back(write_made_shard(directory, "shard-" + std::to_string(shard) + ".h5", begin, end));
    index.statistics.num_tokens += index.shards.back().num_tokens;
    begin = end;
  }
  index.statistics.num_rows_read = 2 * begin;
  index.statistics.num_rows_kept = begin;
  index.statistics.max_token_id = 999;
  write_dataset_index(directory, index);
  return index;
}

}  // namespace plumb
