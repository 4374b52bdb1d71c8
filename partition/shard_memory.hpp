// What a rank keeps of one trained unit: its shard of the float32 parameters, of the gradient sums of the step, and of
// the optimizer's moments. The only owner of these; others look at them through TrainedShard.
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
  /// All zero. num_levels: of the open subtrees of canonical_sum.hpp; 0: the unit is not trained, and has no moments.
  ShardMemory(const ShardLayout& layout, int64_t num_levels, bool has_8bit_moments);

  std::span<float> parameters() const { return span_of(parameters_); }
  /// Complete after the last micro-batch of a step.
  std::span<float> gradients() const { return span_of(levels_.front()); }
  /// Of the sums that are open; gradients() are the first.
  std::span<float* const> levels() const { return level_data_; }

  /// Adds the squares of the gradients, in chunks that no number of ranks moves.
  void add_squares(ExactSum& squares) const;
  /// AdamW on all elements. runs: of ShardLayout::decay_runs() for this rank.
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
