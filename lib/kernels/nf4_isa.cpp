// NF4 kernels, compiled once per instruction set like kernels_isa.cpp. A block of 64 elements has 16 distinct values:
// they are scaled and rounded once, as one vector, and each element is then a lookup in registers.
#include <algorithm>
#include <limits>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "lib/kernels/lanes.hpp"

namespace plumb::PLUMB_ISA {

namespace {

constexpr int64_t kBlockElements = 64;

/// Rounds to binary16 (11 significant bits), ties to even; the result is still a float.
inline Floats rounded_to_f16(Floats x) {
  const Words bits = std::bit_cast<Words>(x), sign = bits & 0x80000000u, magnitude_bits = bits & 0x7fffffffu;
  const Floats magnitude = std::bit_cast<Floats>(magnitude_bits);
  const Floats normal =
      std::bit_cast<Floats>((magnitude_bits + 0xfffu + ((magnitude_bits >> 13) & 1u)) & ~Words{} << 13);
  const Floats subnormal =
      (magnitude + 0.5f) - 0.5f;  // rounds to multiples of 2^-24, the spacing of floats in [0.5, 1)
  const Floats rounded = magnitude < broadcast(0x1p-14f) ? subnormal : normal;
  const Floats finite = rounded > broadcast(65504.0f) ? broadcast(std::numeric_limits<float>::infinity()) : rounded;
  return std::bit_cast<Floats>(std::bit_cast<Words>(finite) | sign);
}

inline Floats rounded_to_bf16(Floats x) {
  const Words bits = std::bit_cast<Words>(x);
  return std::bit_cast<Floats>((bits + 0x7fffu + ((bits >> 16) & 1u)) & ~Words{} << 16);
}

#if defined(__AVX512BW__)
// Each byte is expanded to a lane of two elements: the index in its upper half first, that in its lower half next. The
// lookups ignore all bits above those of an index, so the table of 16-bit values is stored twice.
inline void lookup_block(const uint8_t* codes, const float* table, float* out) {
  const __m512 values = _mm512_loadu_ps(table);
  for (int i = 0; i < kBlockElements / 2; i += 8) {
    const __m512i bytes =
        _mm512_maskz_cvtepu8_epi64(0xff, _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + i)));
    const __m512i indices =
        _mm512_or_si512(_mm512_maskz_srli_epi64(0xff, bytes, 4), _mm512_maskz_slli_epi64(0xff, bytes, 32));
    _mm512_storeu_ps(out + 2 * i, _mm512_maskz_permutexvar_ps(0xffff, indices, values));
  }
}
inline void lookup_block(const uint8_t* codes, const BFloat16* table, BFloat16* out) {
  const __m512i values =
      _mm512_maskz_broadcast_i64x4(0xff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table)));
  for (int i = 0; i < kBlockElements / 2; i += 16) {
    const __m512i bytes =
        _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i)));
    const __m512i indices =
        _mm512_or_si512(_mm512_maskz_srli_epi32(0xffff, bytes, 4), _mm512_maskz_slli_epi32(0xffff, bytes, 16));
    _mm512_storeu_si512(out + 2 * i, _mm512_maskz_permutexvar_epi16(~0u, indices, values));
  }
}
#elif defined(__AVX2__)
inline void lookup_block(const uint8_t* codes, const float* table, float* out) {
  const __m256 low = _mm256_loadu_ps(table), high = _mm256_loadu_ps(table + 8);
  for (int i = 0; i < kBlockElements / 2; i += 4) {
    int four_bytes;
    std::memcpy(&four_bytes, codes + i, sizeof four_bytes);
    const __m256i bytes = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four_bytes));
    const __m256i indices = _mm256_or_si256(_mm256_srli_epi64(bytes, 4), _mm256_slli_epi64(bytes, 32));
    const __m256 is_high = _mm256_castsi256_ps(_mm256_slli_epi32(indices, 28));  // the fourth bit becomes the sign
    _mm256_storeu_ps(out + 2 * i, _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, indices),
                                                   _mm256_permutevar8x32_ps(high, indices), is_high));
  }
}
inline void lookup_block(const uint8_t* codes, const BFloat16* table, BFloat16* out) {
  const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table)),
                second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 8));
  const __m128i low_byte = _mm_set1_epi16(0xff), four_bits = _mm_set1_epi8(0xf);
  const __m128i low = _mm_packus_epi16(_mm_and_si128(first, low_byte), _mm_and_si128(second, low_byte)),
                high = _mm_packus_epi16(_mm_srli_epi16(first, 8), _mm_srli_epi16(second, 8));
  auto* to = reinterpret_cast<__m128i*>(out);
  for (int i = 0; i < kBlockElements / 2; i += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i));
    const __m128i even = _mm_and_si128(_mm_srli_epi16(bytes, 4), four_bits), odd = _mm_and_si128(bytes, four_bits);
    for (const __m128i indices : {_mm_unpacklo_epi8(even, odd), _mm_unpackhi_epi8(even, odd)}) {
      const __m128i low_bytes = _mm_shuffle_epi8(low, indices), high_bytes = _mm_shuffle_epi8(high, indices);
      _mm_storeu_si128(to++, _mm_unpacklo_epi8(low_bytes, high_bytes));
      _mm_storeu_si128(to++, _mm_unpackhi_epi8(low_bytes, high_bytes));
    }
  }
}
#else
template <class T>
inline void lookup_block(const uint8_t* codes, const T* table, T* out) {
  for (int i = 0; i < kBlockElements / 2; ++i) {
    out[2 * i] = table[codes[i] >> 4];
    out[2 * i + 1] = table[codes[i] & 0xf];
  }
}
#endif

template <class T, class Round>
void dequantize_rounded(const uint8_t* codes, const float* scales, int64_t begin, int64_t n, T* out, Round round) {
  const Floats values = load(kNf4Values);
  for (int64_t i = begin, end = begin + n; i < end; ++scales) {
    const int64_t block_end = std::min(end, (i / kBlockElements + 1) * kBlockElements);
    T table[kLanes];
    store(table, round(values * *scales));
    if (block_end - i == kBlockElements) {
      lookup_block(codes + i / 2, table, out);
      out += kBlockElements;
      i = block_end;
    }
    for (; i < block_end; ++i) *out++ = table[(codes[i / 2] >> (i % 2 == 0 ? 4 : 0)) & 0xf];
  }
}

template <class T>
void dequantize(const uint8_t* codes, const float* scales, int64_t begin, int64_t n, Dtype original, T* out) {
  if (original == Dtype::kBf16)
    dequantize_rounded(codes, scales, begin, n, out, rounded_to_bf16);
  else if (original == Dtype::kF16)
    dequantize_rounded(codes, scales, begin, n, out, rounded_to_f16);
  else
    dequantize_rounded(codes, scales, begin, n, out, [](Floats x) { return x; });
}

// Midpoints between consecutive values, rounded as in bitsandbytes, csrc/kernels.cu dQuantizeNF4.
constexpr float kThresholds[] = {
    -0.8480964004993439f,  -0.6106329262256622f,   -0.4599952697753906f, -0.33967943489551544f, -0.23460740596055984f,
    -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f,   0.2035212516784668f,
    0.2920137718319893f,   0.3893125355243683f,    0.5016634166240692f,  0.6427869200706482f,   0.8614784181118011f};

/// Code of the nearest value: the number of thresholds below x.
inline Ints codes_of(Floats x) {
  Ints code{};
  for (const float threshold : kThresholds) code -= x > broadcast(threshold);
  return code;
}

void encode(const float* values, int64_t n, float factor, uint8_t* codes) {
  using Pairs = uint64_t __attribute__((vector_size(64)));
  using Bytes = uint8_t __attribute__((vector_size(8)));
  for (int64_t i = 0; i < n; i += kLanes, codes += kLanes / 2) {
    const int64_t count = std::min(kLanes, n - i);
    float padding[kLanes] = {};
    if (count < kLanes) std::copy(values + i, values + n, padding);
    const Pairs pairs = std::bit_cast<Pairs>(codes_of(load(count < kLanes ? padding : values + i) * factor));
    const Bytes bytes =
        __builtin_convertvector(pairs << 4 | pairs >> 32, Bytes);  // the first of a pair is in the lower half
    std::memcpy(codes, &bytes, static_cast<size_t>(count + 1) / 2);
  }
}

}  // namespace

extern const Nf4Kernels kNf4Kernels = {&encode, &dequantize<float>, &dequantize<BFloat16>};

}  // namespace plumb::PLUMB_ISA
