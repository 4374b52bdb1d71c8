// MXFP4: blocks of 32 elements of a row share a power of two, and each is one of 16 numbers, as gpt-oss is published.
// Read only: such a model is trained from its dequantized values.
// Source: OCP Microscaling Formats (MX) 1.0, E2M1 elements with E8M0 scales; transformers integrations/mxfp4.py, whose
// files hold NAME_blocks, uint8 [..., blocks, 16], and NAME_scales, uint8 [..., blocks].
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace plumb {

inline constexpr int64_t kMxfp4BlockElements = 32;
inline constexpr int64_t kMxfp4BlockBytes = 16;  // two elements per byte, the even one in the low half

/// Computes code * 2^(scale - 127) for the blocks whose scales are given; any run of blocks may be converted by itself.
/// codes: 16 bytes per scale; out: 32 elements per scale. A scale of 255 is NaN, and the largest codes at 254 are
/// infinite; otherwise every value is exact, in bfloat16 too.
void mxfp4_dequantize(std::span<const std::byte> codes, std::span<const std::byte> scales, std::span<float> out);

}  // namespace plumb
