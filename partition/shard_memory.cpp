#include "partition/shard_memory.hpp"

#include <ATen/ops/zeros.h>

#include "lib/kernels/kernels.hpp"

namespace plumb {

ShardMemory::ShardMemory(const ShardLayout& layout, int64_t num_levels, bool has_8bit_moments) {
  const auto new_memory = [&] { return at::zeros({layout.shard_elements()}, at::TensorOptions().dtype(at::kFloat)); };
  parameters_ = new_memory();
  if (num_levels == 0) return;
  moments_ = {layout.shard_elements(), has_8bit_moments && plumb::has_8bit_moments(layout.unit().num_elements)};
  for (int64_t level = 0; level < num_levels; ++level) {
    levels_.push_back(new_memory());
    level_data_.push_back(levels_.back().data_ptr<float>());
  }
}

std::span<float> ShardMemory::span_of(const at::Tensor& memory) {
  return std::span(memory.data_ptr<float>(), memory.numel());
}

void ShardMemory::add_squares(ExactSum& squares) const {
  const std::span<const float> all = gradients();
  for (size_t begin = 0; begin < all.size(); begin += kShardAlignment)
    squares.add(float_kernels().sum_of_squares(all.data() + begin, kShardAlignment));
}

void ShardMemory::update(std::span<const DecayRun> runs, const AdamWStep& step) {
  moments_.update(parameters(), gradients(), runs, step);
}

}  // namespace plumb
