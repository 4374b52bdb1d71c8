// AdamW whose moments are kept in 8 bits: each block of 256 is widened to float32, updated as adamw_update() does, and
// narrowed again, to the nearest of 256 values times the block's largest magnitude. A little over 2 bytes per parameter
// instead of 8. Source: Dettmers et al., arXiv:2110.02861; bitsandbytes AdamW8bit, whose maps and block size these are.
#pragma once

#include <cstdint>
#include <span>

#include "lib/kernels/dynamic_map.hpp"
#include "lib/optim/adamw.hpp"

namespace plumb {

/// Both moments of some parameters. Does not own them.
struct Moments8Bit {
  std::span<uint8_t> codes1, codes2;  // of the signed map; of the unsigned
  std::span<float> scales1, scales2;  // one per block of kDynamicBlockElements

  /// first: a multiple of kDynamicBlockElements.
  Moments8Bit subspan(int64_t first, int64_t count) const;
};

/// What all moments are before the first step.
void set_to_zero(const Moments8Bit& moments);

/// As adamw_update(). The runs follow each other without a gap, the first begins at 0; blocks are counted from element
/// 0, and a block may lie in several runs. Cutting the spans at a multiple of kDynamicBlockElements changes no bit.
void adamw_update_8bit(std::span<float> parameters, std::span<const float> gradients, const Moments8Bit& moments,
                       std::span<const DecayRun> runs, const AdamWOptions& options, double learning_rate, int64_t step,
                       double gradient_scale);

}  // namespace plumb
