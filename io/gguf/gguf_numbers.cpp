#include "io/gguf/gguf_numbers.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "lib/base/check.hpp"
#include "lib/base/dtype.hpp"

namespace plumb {

namespace {

constexpr float kLargestF16 = 65504.0f;

struct Q8Block {
  uint16_t scale = 0;  // float16
  int8_t values[kQ8BlockElements] = {};
};
static_assert(sizeof(Q8Block) == 34);

/// Rounds to nearest, ties to even. value: 0 to kLargestF16.
uint16_t float_to_f16(float value) {
  if (value < 0x1p-14f) return static_cast<uint16_t>(std::nearbyint(value * 0x1p24f));  // subnormals
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0xfffu + ((bits >> 13) & 1u) - (112u << 23)) >> 13);
}

Q8Block quantize(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  const float scale = largest / 127.0f;
  if (scale > kLargestF16)
    throw_error<DataError>("expected weights of at most {:.3g} for q8_0, got {:.3g}; export bf16 or f32",
                           127.0f * kLargestF16, largest);
  const float inverse = scale < 0x1p-126f ? 0.0f : 1.0f / scale;  // of a normal number: finite
  Q8Block block{.scale = float_to_f16(scale)};
  for (size_t i = 0; i < values.size(); ++i) block.values[i] = static_cast<int8_t>(std::round(values[i] * inverse));
  return block;
}

}  // namespace

int64_t encoded_bytes(GgufNumber number, int64_t num_elements) {
  if (number == GgufNumber::kF32) return 4 * num_elements;
  if (number == GgufNumber::kBf16) return 2 * num_elements;
  check(num_elements % kQ8BlockElements == 0, "rows in Q8_0 are whole blocks");
  return num_elements / kQ8BlockElements * static_cast<int64_t>(sizeof(Q8Block));
}

void encode(GgufNumber number, std::span<const float> values, std::span<std::byte> bytes) {
  check(std::ssize(bytes) == encoded_bytes(number, std::ssize(values)), "the bytes have room for the values");
  std::byte* out = bytes.data();
  if (number == GgufNumber::kF32) {
    std::memcpy(out, values.data(), values.size_bytes());
  } else if (number == GgufNumber::kBf16) {
    for (const float value : values) {
      const uint16_t bits = float_to_bf16(value);
      std::memcpy(out, &bits, sizeof(bits));
      out += sizeof(bits);
    }
  } else {
    for (size_t begin = 0; begin < values.size(); begin += kQ8BlockElements) {
      const Q8Block block = quantize(values.subspan(begin, kQ8BlockElements));
      std::memcpy(out, &block, sizeof(block));
      out += sizeof(block);
    }
  }
}

}  // namespace plumb
