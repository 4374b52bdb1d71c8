#include "partition/shard_checksums.hpp"

// Inline functions, so that they are compiled for the same instruction set as this file.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstddef>
#include <functional>

namespace plumb {

namespace {

uint64_t checksum_of(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

/// Calls `visit` for each array until it returns false.
void visit_arrays(std::span<const TrainedShard> shards,
                  const std::function<bool(const TrainedShard& shard, bool is_moment, uint64_t checksum)>& visit) {
  for (const TrainedShard& shard : shards) {
    if (!visit(shard, false, checksum_of(std::as_bytes(shard.parameters)))) return;
    for (const std::span<std::byte> moments : shard.moments->bytes())
      if (!visit(shard, true, checksum_of(moments))) return;
  }
}

}  // namespace

void ShardChecksums::take(std::span<const TrainedShard> shards) {
  checksums_.clear();
  visit_arrays(shards, [this](const TrainedShard&, bool, uint64_t checksum) {
    checksums_.push_back(checksum);
    return true;
  });
}

std::string ShardChecksums::find_changed(std::span<const TrainedShard> shards) const {
  std::string changed;
  size_t next = 0;
  if (checksums_.empty()) return changed;
  visit_arrays(shards, [&](const TrainedShard& shard, bool is_moment, uint64_t checksum) {
    if (checksum == checksums_[next++]) return true;
    changed = (is_moment ? "moments of " : "parameters of ") + shard.layout->unit().name;
    return false;
  });
  return changed;
}

}  // namespace plumb
