// Prepared directories of made-up rows for tests, without tokenizer or MPI.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/dataset/dataset_index.hpp"
#include "io/dataset/token_shard.hpp"
#include "io/file/file.hpp"
#include "io/file/sha256.hpp"

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

/// Pair i begins with i % 3 common tokens and continues with 1 + i % 4 and 1 + i % 5 more; its margin is i / 4.
inline void add_made_pair(TokenRows& rows, int64_t i, bool has_margins) {
  std::vector<int32_t> chosen(i % 3, static_cast<int32_t>(i % 1000)), rejected = chosen;
  chosen.resize(chosen.size() + static_cast<size_t>(1 + i % 4), 1);
  rejected.resize(rejected.size() + static_cast<size_t>(1 + i % 5), 2);
  const std::optional<double> margin = has_margins ? std::optional(static_cast<double>(i) / 4) : std::nullopt;
  rows.add_pair(chosen, rejected, i % 3, margin, 2 * i);
}

inline ShardEntry write_made_pair_shard(const std::string& directory, const std::string& name, int64_t begin,
                                        int64_t end, bool has_margins) {
  const std::string path = join_path(directory, name);
  TokenShardWriter writer(path, {std::string(kPairsKind), has_margins});
  for (int64_t i = begin; i < end; ++i) {
    TokenRows pair;
    add_made_pair(pair, i, has_margins);
    const std::span<const int32_t> tokens(pair.tokens);
    const auto chosen_size = static_cast<size_t>(pair.offsets[1]);
    writer.append_pair(tokens.first(chosen_size), tokens.subspan(chosen_size), pair.prompt_lengths[0],
                       has_margins ? std::optional(pair.margins[0]) : std::nullopt, pair.row_ids[0]);
  }
  writer.finish();
  return {name, writer.num_rows(), writer.num_tokens(), File::open_for_reading(path).size_bytes(),
          sha256_of_file(path)};
}

/// Shards of pairs, with an index.
inline DatasetIndex write_made_pair_dataset(const std::string& directory, const std::vector<int64_t>& rows_of_shards,
                                            bool has_margins) {
  DatasetIndex index;
  index.kind = kPairsKind;
  index.key = "made";
  int64_t begin = 0;
  for (size_t shard = 0; shard < rows_of_shards.size(); ++shard) {
    const int64_t end = begin + rows_of_shards[shard];
    index.shards.push_back(
        write_made_pair_shard(directory, "shard-" + std::to_string(shard) + ".h5", begin, end, has_margins));
    index.statistics.num_tokens += index.shards.back().num_tokens;
    begin = end;
  }
  index.statistics.num_rows_read = 2 * begin;
  index.statistics.num_rows_kept = begin;
  index.statistics.max_token_id = 999;
  write_dataset_index(directory, index);
  return index;
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
