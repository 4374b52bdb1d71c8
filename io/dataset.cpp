#include "io/dataset.hpp"

#include <algorithm>
#include <utility>

#include "io/file.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

/// An open file costs about a megabyte in the HDF5 library.
constexpr size_t kMaxOpenShards = 32;

}  // namespace

Dataset::Dataset(const std::string& directory, int64_t vocab_size)
    : directory_(directory), vocab_size_(vocab_size), index_(read_dataset_index(directory)), first_row_{0} {
  check_shard_sizes(directory, index_);
  if (vocab_size > 0 && index_.statistics.max_token_id >= vocab_size) {
    throw_error<DataError>("{}: expected token ids below {}, the rows of the embedding, got {}; prepare the data again",
                           directory, vocab_size, index_.statistics.max_token_id);
  }
  if (index_.num_rows() == 0) throw_error<DataError>("{}: expected rows, got a dataset without any", directory);
  for (size_t shard = 0; shard < index_.shards.size(); ++shard) {
    const ShardEntry& entry = index_.shards[shard];
    const TokenShardReader reader = open(shard);
    if (reader.num_rows() != entry.num_rows || reader.num_tokens() != entry.num_tokens) {
      throw_error<DataError>("{}: expected {} rows of {} tokens as in index.json, got {} of {}", reader.path(),
                             entry.num_rows, entry.num_tokens, reader.num_rows(), reader.num_tokens());
    }
    if (shard == 0) format_ = reader.format();
    if (reader.format() != format_ || format_.kind != index_.kind) {
      throw_error<DataError>("{}: expected rows of kind {} like those of {}, got {}, {} margins", reader.path(),
                             index_.kind, index_.shards.front().file, reader.format().kind,
                             reader.format().has_margins ? "with" : "without");
    }
    reader.check_offsets();
    first_row_.push_back(first_row_.back() + entry.num_rows);
  }
}

TokenShardReader Dataset::open(size_t shard) const {
  return TokenShardReader(join_path(directory_, index_.shards[shard].file), vocab_size_);
}

const TokenShardReader& Dataset::reader_of(size_t shard) const {
  const auto found = std::find_if(open_shards_.begin(), open_shards_.end(),
                                  [&](const OpenShard& candidate) { return candidate.shard == shard; });
  if (found == open_shards_.end()) {
    if (open_shards_.size() == kMaxOpenShards) open_shards_.pop_back();
    open_shards_.push_front({shard, open(shard)});
  } else {
    std::rotate(open_shards_.begin(), found, found + 1);
  }
  return open_shards_.front().reader;
}

TokenRows Dataset::rows(int64_t begin, int64_t end) const {
  check(begin >= 0 && begin <= end && end <= num_rows(), "rows to read lie within the dataset");
  const std::lock_guard lock(mutex_);
  TokenRows all;
  while (begin < end) {
    const auto after = std::upper_bound(first_row_.begin(), first_row_.end(), begin);
    const auto shard = static_cast<size_t>(after - first_row_.begin()) - 1;
    const int64_t shard_end = std::min(end, *after);
    TokenRows part = reader_of(shard).read(begin - first_row_[shard], shard_end - first_row_[shard]);
    begin = shard_end;
    if (all.num_rows() == 0) {
      all = std::move(part);
    } else {
      all.append(part);
    }
  }
  return all;
}

}  // namespace plumb
