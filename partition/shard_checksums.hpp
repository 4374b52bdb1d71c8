// Checksums of the shards that a rank owns, taken after each update and compared before the next one. They detect
// memory corruption in between; under ZeRO-3 no other rank has a copy to compare with.
// Source: xxHash, XXH3.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "partition/trained_shard.hpp"

namespace plumb {

class ShardChecksums {
 public:
  /// Records checksums of the current parameters and moments.
  void take(std::span<const TrainedShard> shards);
  /// Discards the checksums, because the shards are about to change.
  void forget() { checksums_.clear(); }

  /// Names the first array that differs from its checksum, such as "parameters of block.3". Empty if none differs or no
  /// checksums were taken.
  std::string find_changed(std::span<const TrainedShard> shards) const;

 private:
  std::vector<uint64_t> checksums_;  // by shard: parameters, moments
};

}  // namespace plumb
