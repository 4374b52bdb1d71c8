// The number formats in which plumb writes tensors to a GGUF file. Q8_0: blocks of 32 elements of a row, each an int8,
// with a float16 scale for the block.
// Source: ggml-common.h and quantize_row_q8_0_ref of ggml, with the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/base/named.hpp"

namespace plumb {

/// The values are ggml's codes of the formats.
enum class GgufNumber : uint32_t { kF32 = 0, kQ8_0 = 8, kBf16 = 30 };

template <>
inline constexpr auto kNames<GgufNumber> = std::to_array<Named<GgufNumber>>({{"f32", GgufNumber::kF32},
                                                                             {"bf16", GgufNumber::kBf16},
                                                                             {"q8_0", GgufNumber::kQ8_0}});

inline constexpr int64_t kQ8BlockElements = 32;

/// The size of elements of one row, in Q8_0 of whole blocks.
int64_t encoded_bytes(GgufNumber number, int64_t num_elements);

/// `bytes` has encoded_bytes() of the values. Throws DataError if a value is beyond the scales of Q8_0.
void encode(GgufNumber number, std::span<const float> values, std::span<std::byte> bytes);

}  // namespace plumb
