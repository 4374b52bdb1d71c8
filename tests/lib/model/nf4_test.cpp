#include "lib/model/nf4.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "io/file/sha256.hpp"
#include "lib/base/random.hpp"
#include "lib/nn/tensor_ops.hpp"
#include "tests/lib/kernels/kernel_copies.hpp"

namespace plumb {
namespace {

// bitsandbytes csrc/kernels.cu dQuantizeNF4: the code is the number of these thresholds below the value
constexpr float kThresholds[] = {
    -0.8480964004993439f,  -0.6106329262256622f,   -0.4599952697753906f, -0.33967943489551544f, -0.23460740596055984f,
    -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f,   0.2035212516784668f,
    0.2920137718319893f,   0.3893125355243683f,    0.5016634166240692f,  0.6427869200706482f,   0.8614784181118011f};

std::vector<float> random_values(int64_t count, float scale = 1) {
  std::vector<float> values(count);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(random_uniform(7, i, 0) + random_uniform(7, i, 1) - 1) * scale;
  return values;
}

struct Quantized {
  std::vector<std::byte> bytes;
  Nf4View view;

  Quantized(std::span<const float> values, bool is_nested, Dtype original = Dtype::kF32) {
    view.layout = nf4_layout(std::ssize(values), is_nested);
    bytes.assign(view.layout.num_bytes, std::byte{0xff});
    nf4_quantize(values, view.layout, bytes);
    view.data = bytes.data();
    view.original_dtype = original;
  }
  int code(int64_t i) const {
    const auto byte = std::to_integer<int>(view.data[view.layout.codes_offset + i / 2]);
    return i % 2 == 0 ? byte >> 4 : byte & 0xf;
  }
  template <class T>
  T part(int64_t offset, int64_t index) const {
    T value;
    std::memcpy(&value, view.data + offset + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return value;
  }
  float scale(int64_t block) const {
    const Nf4Layout& l = view.layout;
    if (!l.is_nested) return part<float>(l.absmax_offset, block);
    const auto value = part<float>(l.nested_map_offset, part<uint8_t>(l.absmax_offset, block));
    const float product = value * part<float>(l.nested_absmax_offset, block / kNf4NestedElements);
    return product + part<float>(l.nested_mean_offset, 0);
  }
  std::vector<float> all() const {
    std::vector<float> out(view.layout.num_elements);
    nf4_dequantize(view, 0, out);
    return out;
  }
};

/// One value, rounded as the header specifies, with the conversions of LibTorch.
float rounded(float value, Dtype dtype) {
  if (dtype == Dtype::kF16) return static_cast<float>(static_cast<c10::Half>(value));
  return dtype == Dtype::kBf16 ? static_cast<float>(static_cast<c10::BFloat16>(value)) : value;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

constexpr int64_t kCounts[] = {1, 2, 63, 64, 65, 127, 128, 1000, 64 * 256, 64 * 257 + 13, 64 * 1100 + 1};

TEST(Nf4, CodeBookIsThatOfBitsandbytes) {
  Sha256 sum;
  sum.update(std::as_bytes(std::span(kNf4Values)));
  const std::string digest = sum.hex_digest();
  EXPECT_TRUE(digest.starts_with("8501941d") && digest.ends_with("e60c06a")) << digest;
}

TEST(Nf4, ThresholdsAreStrict) {
  for (const KernelCopy& copy : copies())
    for (int i = 0; i < 15; ++i) {
      const float around[] = {kThresholds[i], std::nextafter(kThresholds[i], 1.0f),
                              std::nextafter(kThresholds[i], -1.0f)};
      uint8_t codes[2];
      copy.nf4->encode(around, 3, 1, codes);
      EXPECT_EQ(codes[0], i << 4 | (i + 1)) << copy.name;
      EXPECT_EQ(codes[1], i << 4 | 7) << copy.name << ": padded with zero";
    }
}

TEST(Nf4, LayoutIsAlignedWithoutOverlap) {
  for (const int64_t count : kCounts) {
    const Nf4Layout nested = nf4_layout(count, true), plain = nf4_layout(count, false);
    EXPECT_EQ(nested.codes_offset, 0);
    EXPECT_GE(nested.absmax_offset, nested.num_code_bytes());
    EXPECT_GE(nested.nested_absmax_offset, nested.absmax_offset + nested.num_blocks());
    EXPECT_GE(nested.nested_map_offset, nested.nested_absmax_offset + 4 * nested.num_nested_blocks());
    EXPECT_GE(nested.nested_mean_offset, nested.nested_map_offset + 1024);
    EXPECT_GE(nested.num_bytes, nested.nested_mean_offset + 4);
    EXPECT_GE(plain.num_bytes, plain.absmax_offset + 4 * plain.num_blocks());
    for (const int64_t offset : {nested.absmax_offset, nested.nested_absmax_offset, nested.nested_map_offset,
                                 nested.nested_mean_offset, nested.num_bytes, plain.absmax_offset, plain.num_bytes})
      EXPECT_EQ(offset % 64, 0) << count;
  }
  const int64_t million = int64_t{1} << 20;
  EXPECT_NEAR(static_cast<double>(nf4_layout(million, true).num_bytes) * 8 / static_cast<double>(million), 4.127, 0.01);
  EXPECT_DOUBLE_EQ(static_cast<double>(nf4_layout(million, false).num_bytes) * 8 / static_cast<double>(million), 4.5);
}

TEST(Nf4, CodesAreNearestToTheScaledValue) {
  for (const int64_t count : kCounts) {
    const std::vector<float> values = random_values(count, 0.02f);
    const Quantized matrix(values, false);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t begin = i / 64 * 64, end = std::min(count, begin + 64);
      float absmax = 0;
      for (int64_t k = begin; k < end; ++k) absmax = std::max(absmax, std::abs(values[k]));
      EXPECT_EQ(matrix.scale(i / 64), absmax);
      const float x = values[i] * (1 / absmax);
      int code = 0;
      for (const float threshold : kThresholds) code += x > threshold;
      ASSERT_EQ(matrix.code(i), code) << count << ": element " << i;
    }
    if (count % 2 == 1) {
      EXPECT_EQ(matrix.code(count), 7) << "an odd count is padded with zero";
    }
  }
}

TEST(Nf4, NestedScalesApproximateThePlainOnes) {
  for (const int64_t count : kCounts) {
    const std::vector<float> values = random_values(count, 3);
    const Quantized nested(values, true), plain(values, false);
    EXPECT_EQ(std::memcmp(nested.view.data, plain.view.data, nested.view.layout.num_code_bytes()), 0);
    const auto mean = nested.part<float>(nested.view.layout.nested_mean_offset, 0);
    for (int64_t block = 0; block < nested.view.layout.num_blocks(); ++block) {
      const int64_t first = block / 256 * 256, end = std::min(first + 256, nested.view.layout.num_blocks());
      float absmax = 0;
      for (int64_t i = first; i < end; ++i) absmax = std::max(absmax, std::abs(plain.scale(i) - mean));
      EXPECT_EQ(nested.part<float>(nested.view.layout.nested_absmax_offset, block / 256), absmax);
      // half the widest gap of the map, 0.9 / 64
      EXPECT_NEAR(nested.scale(block), plain.scale(block), absmax * 0.00704f + 1e-6f) << count;
    }
  }
}

TEST(Nf4, DequantizesToCodeTimesScaleRoundedOnce) {
  for (const Dtype original : {Dtype::kF32, Dtype::kBf16, Dtype::kF16})
    for (const bool is_nested : {true, false})
      for (const int64_t count : kCounts) {
        const Quantized matrix(random_values(count, 0.1f), is_nested, original);
        std::vector<float> expected(count), expected_bf16(expected.size());
        for (int64_t i = 0; i < count; ++i) {
          const float value = rounded(kNf4Values[matrix.code(i)] * matrix.scale(i / 64), original);
          expected[i] = value;
          expected_bf16[i] = rounded(value, Dtype::kBf16);
        }
        EXPECT_TRUE(same_bits(matrix.all(), expected)) << count;
        std::vector<uint16_t> bits(expected.size());
        nf4_dequantize_bf16(matrix.view, 0, bits);
        std::vector<float> wide;
        for (const uint16_t value : bits) wide.push_back(bf16_to_float(value));
        EXPECT_TRUE(same_bits(wide, expected_bf16)) << count;
      }
}

TEST(Nf4, BlocksOfZerosStayZeros) {
  for (const bool is_nested : {true, false}) {
    std::vector<float> values = random_values(64 * 5 + 3);
    std::fill(values.begin() + 64, values.begin() + 128, 0.0f);
    std::fill(values.begin() + 320, values.end(), 0.0f);
    const std::vector<float> got = Quantized(values, is_nested).all();
    for (size_t i = 0; i < values.size(); ++i) EXPECT_TRUE(values[i] != 0 || got[i] == 0) << i;
    std::fill(values.begin(), values.end(), 0.0f);
    EXPECT_EQ(Quantized(values, is_nested).all(), values);
    std::fill(values.begin(), values.end(), std::numeric_limits<float>::denorm_min());
    for (const float value : Quantized(values, is_nested).all()) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST(Nf4, GivesTheSameBitsForAnySplit) {
  const int64_t count = 64 * 1100 + 1;
  const Quantized matrix(random_values(count), true, Dtype::kBf16);
  const std::vector<float> whole = matrix.all();
  std::vector<uint16_t> whole_bf16(whole.size());
  nf4_dequantize_bf16(matrix.view, 0, whole_bf16);
  for (const int64_t step : {int64_t{1}, int64_t{63}, int64_t{100}, int64_t{64 * 512 + 1}, count}) {
    std::vector<float> parts(whole.size());
    std::vector<uint16_t> parts_bf16(whole.size());
    for (int64_t begin = 0; begin < count; begin += step) {
      const auto first = static_cast<size_t>(begin), size = static_cast<size_t>(std::min(step, count - begin));
      nf4_dequantize(matrix.view, begin, std::span(parts).subspan(first, size));
      nf4_dequantize_bf16(matrix.view, begin, std::span(parts_bf16).subspan(first, size));
    }
    EXPECT_TRUE(same_bits(parts, whole)) << step;
    EXPECT_EQ(parts_bf16, whole_bf16) << step;
  }
  at::set_num_threads(3);
  const at::Tensor tensor = at::zeros({count - 5}, at::kFloat), narrow = at::zeros({count - 5}, at::kBFloat16);
  cpu_ops().nf4_dequantize(matrix.view, 5, tensor);
  cpu_ops().nf4_dequantize(matrix.view, 5, narrow);
  EXPECT_EQ(std::memcmp(tensor.const_data_ptr(), whole.data() + 5, tensor.nbytes()), 0);
  EXPECT_EQ(std::memcmp(narrow.const_data_ptr(), whole_bf16.data() + 5, narrow.nbytes()), 0);
}

TEST(Nf4, GivesTheSameBitsOnEveryInstructionSet) {
  constexpr int64_t kCount = 64 * 40 + 29;
  std::vector<uint8_t> codes((kCount + 1) / 2);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(random_uniform(3, i, 0) * 256);
  std::vector<float> scales(41), values = random_values(kCount);
  for (size_t i = 0; i < scales.size(); ++i)  // from numbers that binary16 has no more to those that overflow it
    scales[i] = std::ldexp(static_cast<float>(1 + random_uniform(4, i, 0)), static_cast<int>(i) - 25);
  const Nf4Kernels& plain = *copies().front().nf4;
  for (const KernelCopy& copy : copies()) {
    SCOPED_TRACE(copy.name);
    std::vector<uint8_t> expected_codes(codes.size()), got_codes(codes.size());
    plain.encode(values.data(), kCount, 1.25f, expected_codes.data());
    copy.nf4->encode(values.data(), kCount, 1.25f, got_codes.data());
    EXPECT_EQ(got_codes, expected_codes);
    for (const Dtype original : {Dtype::kF32, Dtype::kBf16, Dtype::kF16})
      for (const int64_t begin : {0, 1, 64, 101}) {
        const int64_t count = kCount - begin;
        std::vector<float> got(count), expected(got.size());
        std::vector<BFloat16> got_bf16(got.size());
        copy.nf4->to_float(codes.data(), scales.data() + begin / 64, begin, count, original, got.data());
        copy.nf4->to_bfloat16(codes.data(), scales.data() + begin / 64, begin, count, original, got_bf16.data());
        for (int64_t i = begin; i < kCount; ++i) {
          const int code = codes[i / 2] >> (i % 2 == 0 ? 4 : 0) & 0xf;
          const float value = rounded(kNf4Values[code] * scales[i / 64], original);
          expected[i - begin] = value;
          EXPECT_EQ(got_bf16[i - begin].bits, float_to_bf16(value));
        }
        EXPECT_TRUE(same_bits(got, expected)) << begin;
      }
  }
}

}  // namespace
}  // namespace plumb
