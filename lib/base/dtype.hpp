// Number formats of weights in files and on the wire, and exact conversions between them one value at a time.
// Source: IEEE 754-2019 binary16; bfloat16 is the upper half of a binary32; names as in the safetensors format.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace plumb {

static_assert(std::endian::native == std::endian::little,
              "the file formats are little-endian and read without swapping");

enum class Dtype { kF32, kBf16, kF16, kF64, kI64, kI32, kI16, kI8, kU64, kU32, kU16, kU8, kBool, kF8E4M3, kF8E5M2 };

struct DtypeInfo {
  Dtype dtype;
  std::string_view name;
  int64_t size_bytes;
};

inline constexpr DtypeInfo kDtypes[] = {
    {Dtype::kF32, "F32", 4},   {Dtype::kBf16, "BF16", 2},      {Dtype::kF16, "F16", 2},        {Dtype::kF64, "F64", 8},
    {Dtype::kI64, "I64", 8},   {Dtype::kI32, "I32", 4},        {Dtype::kI16, "I16", 2},        {Dtype::kI8, "I8", 1},
    {Dtype::kU64, "U64", 8},   {Dtype::kU32, "U32", 4},        {Dtype::kU16, "U16", 2},        {Dtype::kU8, "U8", 1},
    {Dtype::kBool, "BOOL", 1}, {Dtype::kF8E4M3, "F8_E4M3", 1}, {Dtype::kF8E5M2, "F8_E5M2", 1},
};

constexpr const DtypeInfo& dtype_info(Dtype dtype) { return kDtypes[static_cast<int>(dtype)]; }
constexpr int64_t size_bytes(Dtype dtype) { return dtype_info(dtype).size_bytes; }

inline float bf16_to_float(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

/// Rounds to nearest, ties to even; a NaN stays a NaN of the same sign.
inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float f16_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {
    // 2^-24 times an integer of 10 bits: exact in float, which has no subnormals there
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  const uint32_t float_exponent = exponent == 0x1fu ? 0xffu : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (float_exponent << 23) | (mantissa << 13));
}

}  // namespace plumb
