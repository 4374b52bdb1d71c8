// The moments of AdamW for one span of parameters, in float32 or in 8 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lib/optim/adamw.hpp"
#include "lib/optim/adamw_8bit.hpp"

namespace plumb {

/// True if a unit of so many elements is large enough for moments in 8 bits. bitsandbytes keeps the moments of tensors
/// below 4096 elements in float32; here the limit applies to units (a reward head is one row and a norm). A larger unit
/// has all its moments in 8 bits, including norms and biases: the map of a block spans seven decades.
inline bool has_8bit_moments(int64_t unit_elements) { return unit_elements >= 4096; }

/// The size of both moments in bytes.
int64_t moment_bytes(int64_t elements, bool is_8bit);

/// One of the arrays that hold the moments, counted from element 0 of the unit.
struct MomentPiece {
  int64_t value_bytes;         // 4, or 1 for codes
  int64_t elements_per_value;  // 1, or kDynamicBlockElements for scales

  int64_t num_bytes(int64_t elements) const {
    return (elements + elements_per_value - 1) / elements_per_value * value_bytes;
  }
};
/// The arrays of both moments in order. In float32: two arrays; in 8 bits: codes, codes, scales, scales.
std::vector<MomentPiece> moment_pieces(bool is_8bit);

class AdamWState {
 public:
  AdamWState() = default;
  AdamWState(int64_t elements, bool is_8bit);

  /// As adamw_update(), on all elements. The runs cover them in order and without gaps.
  void update(std::span<float> parameters, std::span<const float> gradients, std::span<const DecayRun> runs,
              const AdamWStep& step);

  bool is_8bit() const { return !codes1_.empty(); }
  int64_t num_bytes() const;

  /// All arrays of moment_pieces(is_8bit()), to save or restore.
  std::vector<std::span<std::byte>> bytes();

 private:
  Moments8Bit view() { return {codes1_, codes2_, scales1_, scales2_}; }

  std::vector<float> moments1_, moments2_;  // float32 only
  std::vector<uint8_t> codes1_, codes2_;    // 8 bits only
  std::vector<float> scales1_, scales2_;
};

}  // namespace plumb
