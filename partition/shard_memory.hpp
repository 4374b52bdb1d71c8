// The memory of one trained unit on one rank: its shard of the float32 parameters, of the step's gradient sums, and of
// the optimizer's moments. The sole owner of these; other code accesses them through TrainedShard.
// Source: ZeRO stage 3, arXiv:1910.02054.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "lib/base/exact_sum.hpp"
#include "lib/optim/adamw_state.hpp"
#include "partition/shard_layout.hpp"
#include "partition/trained_shard.hpp"

namespace plumb {

class ShardMemory {
 public:
  /// All values are zero. num_levels: max_open_subtrees() of canonical_sum.hpp, or 0 if the unit is not trained and has
  /// neither gradients nor moments.
  ShardMemory(const ShardLayout& layout, int64_t num_levels, bool has_8bit_moments);

  std::span<float> parameters() const { return span_of(parameters_); }
  /// Complete after the last micro-batch of a step.
  std::span<float> gradients() const { return span_of(levels_.front()); }
  /// The open subtrees of the gradient sums; the first is gradients().
  std::span<float* const> levels() const { return level_data_; }

  /// Adds the squares of the gradients to `squares`, in chunks that do not depend on the number of ranks.
  void add_squares(ExactSum& squares) const;
  /// Applies AdamW to all elements. runs: ShardLayout::decay_runs() of this rank.
  void update(std::span<const DecayRun> runs, const AdamWStep& step);

  TrainedShard view(const ShardLayout& layout) { return {&layout, parameters(), &moments_}; }

 private:
  static std::span<float> span_of(const at::Tensor& memory);

  at::Tensor parameters_;
  std::vector<at::Tensor> levels_;
  std::vector<float*> level_data_;
  AdamWState moments_;
};

}  // namespace plumb
