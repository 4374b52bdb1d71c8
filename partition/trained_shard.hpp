// What a rank owns of a unit that is trained, as saving and restoring see it: the master parameters and both moments,
// in the order of the unit's elements.
#pragma once

#include <span>

#include "lib/optim/adamw_state.hpp"
#include "partition/shard_layout.hpp"

namespace plumb {

/// Views of a TrainableModel's memory.
struct TrainedShard {
  const ShardLayout* layout;
  std::span<float> parameters;  // shard_elements() of them
  AdamWState* moments;
};

}  // namespace plumb
