#include "lib/optim/adamw_8bit.hpp"

#include <algorithm>
#include <cmath>

#include "lib/kernels/kernels.hpp"

namespace plumb {

namespace {

constexpr auto kBlock = static_cast<size_t>(kDynamicBlockElements);

size_t num_blocks(size_t elements) { return (elements + kBlock - 1) / kBlock; }

/// Calls update(first, count, is_decayed) for the intersection of each run with [begin, end).
template <class Update>
void for_runs_within(std::span<const DecayRun> runs, int64_t begin, int64_t end, Update update) {
  for (const DecayRun& run : runs) {
    const int64_t first = std::max(begin, run.begin), last = std::min(end, run.end);
    if (first < last) update(first, last - first, run.is_decayed);
  }
}

}  // namespace

Moments8Bit Moments8Bit::subspan(int64_t first, int64_t count) const {
  const auto begin = static_cast<size_t>(first), size = static_cast<size_t>(count);
  return {codes1.subspan(begin, size), codes2.subspan(begin, size), scales1.subspan(begin / kBlock, num_blocks(size)),
          scales2.subspan(begin / kBlock, num_blocks(size))};
}

void set_to_zero(const Moments8Bit& moments) {
  std::fill(moments.codes1.begin(), moments.codes1.end(), dynamic_map(true).nearest(0));
  std::fill(moments.codes2.begin(), moments.codes2.end(), dynamic_map(false).nearest(0));
  std::fill(moments.scales1.begin(), moments.scales1.end(), 0.0f);
  std::fill(moments.scales2.begin(), moments.scales2.end(), 0.0f);
}

void adamw_update_8bit(std::span<float> parameters, std::span<const float> gradients, const Moments8Bit& moments,
                       std::span<const DecayRun> runs, const AdamWStep& step) {
  AdamWStep not_decayed = step;
  not_decayed.weight_decay = 0;
  const DynamicMap &map1 = dynamic_map(true), &map2 = dynamic_map(false);
  for (size_t block = 0; block < num_blocks(parameters.size()); ++block) {
    const size_t begin = block * kBlock, count = std::min(kBlock, parameters.size() - begin);
    const std::span<uint8_t> codes1 = moments.codes1.subspan(begin, count),
                             codes2 = moments.codes2.subspan(begin, count);
    float wide1[kBlock], wide2[kBlock];
    const std::span<float> moments1(wide1, count), moments2(wide2, count);
    dequantize_block(map1, codes1.data(), moments.scales1[block], moments1);
    dequantize_block(map2, codes2.data(), moments.scales2[block], moments2);
    const auto block_begin = static_cast<int64_t>(begin);
    for_runs_within(runs, block_begin, block_begin + static_cast<int64_t>(count),
                    [&](int64_t first, int64_t size, bool is_decayed) {
                      float_kernels().adamw(parameters.data() + first, gradients.data() + first,
                                            wide1 + (first - block_begin), wide2 + (first - block_begin), size,
                                            is_decayed ? step : not_decayed);
                    });
    moments.scales1[block] = quantize_block(map1, moments1, codes1.data());
    moments.scales2[block] = quantize_block(map2, moments2, codes2.data());
  }
}

}  // namespace plumb
