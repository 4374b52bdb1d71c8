#include "lib/nn/rope.hpp"

#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace plumb {
namespace {

ModelConfig config_of(double theta, int64_t head_dim) {
  ModelConfig config;
  config.head_dim = head_dim;
  config.rope.theta = theta;
  return config;
}

// Exponent, power and reciprocal are rounded to float32, as transformers does; the exponent's rounding counts
// log(theta) times, which is 13 for the largest theta here.
constexpr double kFrequencyError = 16 * 0x1p-24;

double exact_frequency(double theta, int64_t head_dim, size_t pair) {
  return std::pow(theta, -2.0 * static_cast<double>(pair) / static_cast<double>(head_dim));
}

TEST(RopeFrequencies, FallFromOneByPowersOfTheta) {
  for (const double theta : {10000.0, 500000.0, 1000000.0})
    for (const int64_t head_dim : {2, 8, 64, 80, 128}) {
      const auto frequencies = rope_frequencies(config_of(theta, head_dim));
      ASSERT_EQ(std::ssize(frequencies), head_dim / 2);
      EXPECT_EQ(frequencies[0], 1.0f);
      for (size_t i = 0; i < frequencies.size(); ++i) {
        const double expected = exact_frequency(theta, head_dim, i);
        EXPECT_NEAR(frequencies[i], expected, expected * kFrequencyError) << theta << " " << head_dim << " " << i;
      }
    }
}

TEST(RopeFrequencies, OfLinearScalingAreDividedByTheFactor) {
  ModelConfig config = config_of(10000, 64);
  const auto plain = rope_frequencies(config);
  config.rope.kind = RopeConfig::Kind::kLinear;
  config.rope.factor = 4;
  const auto scaled = rope_frequencies(config);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(scaled[i], plain[i] / 4);
}

/// Meta's apply_scaling() for Llama 3.1, written out.
double llama3_frequency(double frequency, const RopeConfig& rope) {
  const auto context = static_cast<double>(rope.original_max_position_embeddings);
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < context / rope.high_freq_factor) return frequency;
  if (wavelength > context / rope.low_freq_factor) return frequency / rope.factor;
  const double smooth = (context / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

TEST(RopeFrequencies, OfLlama3AreThoseOfMeta) {
  ModelConfig config = config_of(500000, 128);
  config.rope.kind = RopeConfig::Kind::kLlama3;
  config.rope.low_freq_factor = 1;
  config.rope.high_freq_factor = 4;
  for (const double factor : {8.0, 32.0})
    for (const int64_t context : {64, 8192}) {
      config.rope.factor = factor;
      config.rope.original_max_position_embeddings = context;
      const auto frequencies = rope_frequencies(config);
      int kept = 0, stretched = 0;
      for (size_t i = 0; i < frequencies.size(); ++i) {
        const double plain = exact_frequency(500000, 128, i), expected = llama3_frequency(plain, config.rope);
        // where the two are blended, the blend moves with the frequency, twice as fast
        EXPECT_NEAR(frequencies[i], expected, expected * 3 * kFrequencyError) << i;
        kept += expected == plain ? 1 : 0;
        stretched += expected == plain / factor ? 1 : 0;
      }
      EXPECT_GT(kept, 0);
      EXPECT_GT(stretched, 0);
      EXPECT_GT(std::ssize(frequencies) - kept - stretched, 0) << "some are blended";
    }
}

float at_place(const at::Tensor& table, int64_t position, int64_t pair) { return table[position][pair].item<float>(); }

TEST(RopeTable, HoldsCosinesAndSinesOfPositionTimesFrequency) {
  const std::vector<float> frequencies = {1.0f, 0.1f, 0.001f};
  RopeTable table(frequencies);
  table.cover(5);
  ASSERT_EQ(table.cos().size(0), 5);
  ASSERT_EQ(table.sin().size(1), 3);
  for (int64_t position = 0; position < 5; ++position)
    for (int64_t i = 0; i < 3; ++i) {
      const double angle = static_cast<double>(position) * static_cast<double>(frequencies[i]);
      // an angle of at most 4 rounded to float32, then the cosine
      EXPECT_NEAR(at_place(table.cos(), position, i), std::cos(angle), 0x1p-22 + 0x1p-24);
      EXPECT_NEAR(at_place(table.sin(), position, i), std::sin(angle), 0x1p-22 + 0x1p-24);
    }
}

TEST(RopeTable, GrowsWithoutChangingWhatItHeld) {
  RopeTable table(config_of(500000, 32)), whole(config_of(500000, 32));
  whole.cover(4000);
  table.cover(10);
  const at::Tensor before = table.cos();
  table.cover(3);
  EXPECT_TRUE(table.cos().is_same(before)) << "nothing is made twice";
  table.cover(4000);
  EXPECT_TRUE(at::equal(table.cos(), whole.cos().narrow(0, 0, table.cos().size(0))));
  EXPECT_TRUE(at::equal(table.sin(), whole.sin()));
  EXPECT_TRUE(at::equal(before, whole.cos().narrow(0, 0, 10))) << "what was handed out stays valid";
}

TEST(RopePositions, StartAtZeroInEachDocumentOrAfterItsPrefix) {
  const std::vector<int64_t> begin = {0, 4, 5, 8}, prefix = {0, 0, 3};
  EXPECT_TRUE(at::equal(rope_positions({begin, {}}), at::tensor({0, 1, 2, 3, 0, 0, 1, 2}, at::kInt)));
  EXPECT_TRUE(at::equal(rope_positions({begin, prefix}), at::tensor({0, 1, 2, 3, 0, 3, 4, 5}, at::kInt)));
}

TEST(RopeTable, IsRightFarFromTheStart) {
  const std::vector<float> frequencies = {1.0f, 0.37f};
  constexpr int64_t kPosition = 131071;
  RopeTable table(frequencies);
  table.cover(kPosition + 1);
  for (int64_t i = 0; i < 2; ++i) {
    const auto angle =
        static_cast<double>(static_cast<float>(kPosition) * frequencies[i]);  // in float, as transformers does
    EXPECT_NEAR(at_place(table.cos(), kPosition, i), std::cos(angle), 0x1p-23)
        << "the reduction of a large angle loses nothing";
    EXPECT_NEAR(at_place(table.sin(), kPosition, i), std::sin(angle), 0x1p-23);
  }
}

}  // namespace
}  // namespace plumb
