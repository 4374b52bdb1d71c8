// AdamW with moments in 8 bits: each block of 256 is decoded to float32, updated as by adamw_update(), and encoded
// again, to the nearest of 256 values times the block's largest magnitude. A little over 2 bytes per parameter instead
// of 8.
// Source: Dettmers et al., arXiv:2110.02861; the maps and the block size of bitsandbytes AdamW8bit.
#pragma once

#include <cstdint>
#include <span>

#include "lib/kernels/dynamic_map.hpp"
#include "lib/optim/adamw.hpp"

namespace plumb {

/// A view of both moments of some parameters. Does not own them.
struct Moments8Bit {
  std::span<uint8_t> codes1, codes2;  // codes of the signed map, codes of the unsigned map
  std::span<float> scales1, scales2;  // one per block of kDynamicBlockElements

  /// The moments from element `first` on, a multiple of kDynamicBlockElements.
  Moments8Bit subspan(int64_t first, int64_t count) const;
};

/// Sets the moments to their values before the first step.
void set_to_zero(const Moments8Bit& moments);

/// As adamw_update(). The runs are contiguous and start at 0; blocks are counted from element 0, and a block may
/// overlap several runs. Splitting the spans at a multiple of kDynamicBlockElements changes no bit.
void adamw_update_8bit(std::span<float> parameters, std::span<const float> gradients, const Moments8Bit& moments,
                       std::span<const DecayRun> runs, const AdamWStep& step);

}  // namespace plumb
