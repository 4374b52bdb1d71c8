#include "partition/trainable_model.hpp"

#include <cmath>
#include <utility>

#include "lib/base/exact_sum.hpp"

namespace plumb {

TrainableModel::TrainableModel(const ModelConfig& config, const Communicator& comm, const EngineOptions& options,
                               std::vector<ShardLayout> trained_units)
    : TrainedUnits(config), comm_(comm), options_(options), layouts_(std::move(trained_units)) {
  const int64_t num_levels =
      options.is_trained ? max_open_subtrees(comm.size(), options.accumulation_steps, options.reduction) : 0;
  for (const ShardLayout& layout : layouts_) shards_.emplace_back(layout, num_levels, options.has_8bit_moments);
}

double TrainableModel::gradient_norm() const {
  ExactSum squares;
  for (const ShardMemory& shard : shards_) shard.add_squares(squares);
  comm_.sum(squares);
  return std::sqrt(squares.value());
}

void TrainableModel::update(const AdamWOptions& options, double learning_rate, int64_t step, double gradient_scale) {
  const AdamWStep adamw = adamw_step(options, learning_rate, step, gradient_scale);
  for (size_t unit = 0; unit < shards_.size(); ++unit)
    shards_[unit].update(layouts_[unit].decay_runs(comm_.rank()), adamw);
  on_parameters_changed(step);
}

std::vector<TrainedShard> TrainableModel::trained_shards() {
  std::vector<TrainedShard> shards;
  for (size_t unit = 0; unit < shards_.size(); ++unit) shards.push_back(shards_[unit].view(layouts_[unit]));
  return shards;
}

}  // namespace plumb
