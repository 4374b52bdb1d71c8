// The model that a stage trains: the whole model, or an adapter on a frozen one.
#pragma once

#include <memory>

#include "partition/adapted_model.hpp"
#include "partition/sharded_model.hpp"

namespace plumb {

/// Exactly one of the two is set.
struct TrainedModel {
  std::unique_ptr<ShardedModel> whole;
  std::unique_ptr<AdaptedModel> adapted;

  TrainableModel& trained() const {
    if (whole) return *whole;
    return *adapted;
  }
};

}  // namespace plumb
