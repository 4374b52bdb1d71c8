// Checksums of what a rank owns, taken when it has changed it and compared before it changes it again: memory that
// loses a bit in between is found. Under ZeRO-3 no other rank has a copy to compare with. Source: xxHash, XXH3.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "partition/trained_shard.hpp"

namespace plumb {

class ShardChecksums {
 public:
  /// Of parameters and moments, as they are now.
  void take(std::span<const TrainedShard> shards);
  /// They are about to change.
  void forget() { checksums_.clear(); }

  /// "" or what of the same shards is not as it was: "parameters of block.3". Nothing where there are no checksums.
  std::string find_changed(std::span<const TrainedShard> shards) const;

 private:
  std::vector<uint64_t> checksums_;  // shard after shard: parameters, moments
};

}  // namespace plumb
