// Checksums of the shards that a rank owns, taken after it has changed them and compared before it changes them again:
// this finds memory that lost a bit in between. Under ZeRO-3 no other rank has a copy to compare with. Source: xxHash,
// XXH3.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "partition/trained_shard.hpp"

namespace plumb {

class ShardChecksums {
 public:
  /// Takes checksums of parameters and moments as they are now.
  void take(std::span<const TrainedShard> shards);
  /// Forgets the checksums: the shards are about to change.
  void forget() { checksums_.clear(); }

  /// The first part of the same shards that has changed, such as "parameters of block.3"; "" for none, and where there
  /// are no checksums.
  std::string find_changed(std::span<const TrainedShard> shards) const;

 private:
  std::vector<uint64_t> checksums_;  // shard after shard: parameters, moments
};

}  // namespace plumb
