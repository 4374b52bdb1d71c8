// A view of one rank's shard of a trained unit, as checkpoints save and restore it: the master parameters and both
// moments, in the order of the unit's elements.
#pragma once

#include <span>

#include "lib/optim/adamw_state.hpp"
#include "partition/shard_layout.hpp"

namespace plumb {

/// Views of the memory of a TrainableModel.
struct TrainedShard {
  const ShardLayout* layout;
  std::span<float> parameters;  // layout->shard_elements() values
  AdamWState* moments;
};

}  // namespace plumb
