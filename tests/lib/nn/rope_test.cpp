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

std::vector<float> frequencies_of(const ModelConfig& config) { return rope_frequencies(config.rope, config, 1); }

// Exponent, power and reciprocal are rounded to float32, as transformers does; the exponent's rounding counts
// log(theta) times, which is 13 for the largest theta here.
constexpr double kFrequencyError = 16 * 0x1p-24;

double exact_frequency(double theta, int64_t head_dim, size_t pair) {
  return std::pow(theta, -2.0 * static_cast<double>(pair) / static_cast<double>(head_dim));
}

TEST(RopeFrequencies, FallFromOneByPowersOfTheta) {
  for (const double theta : {10000.0, 500000.0, 1000000.0})
    for (const int64_t head_dim : {2, 8, 64, 80, 128}) {
      const auto frequencies = frequencies_of(config_of(theta, head_dim));
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
  const auto plain = frequencies_of(config);
  config.rope.kind = RopeConfig::Kind::kLinear;
  config.rope.factor = 4;
  const auto scaled = frequencies_of(config);
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
      const auto frequencies = frequencies_of(config);
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

Rotation rotation_of(RopeTable& table, int64_t length) {
  const std::vector<int64_t> begin = {0, length};
  return table.of_documents({begin, {}});
}

TEST(RopeTable, HoldsCosinesAndSinesOfPositionTimesFrequency) {
  const ModelConfig config = config_of(10000, 6);
  const std::vector<float> frequencies = frequencies_of(config);
  for (const int64_t length : {5, 131072}) {  // the reduction of a large angle loses nothing
    RopeTable table(config.rope, config);
    const Rotation rotation = rotation_of(table, length);
    ASSERT_EQ(rotation.cos.size(0), length);
    ASSERT_EQ(rotation.sin.size(1), 3);
    for (int64_t position = length - 5; position < length; ++position)
      for (int64_t i = 0; i < 3; ++i) {
        const auto angle = static_cast<double>(static_cast<float>(position) * frequencies[i]);  // as transformers does
        EXPECT_NEAR(at_place(rotation.cos, position, i), std::cos(angle), 0x1p-23);
        EXPECT_NEAR(at_place(rotation.sin, position, i), std::sin(angle), 0x1p-23);
      }
  }
}

TEST(RopeTable, GrowsWithoutChangingWhatItHeld) {
  const ModelConfig config = config_of(500000, 32);
  RopeTable table(config.rope, config), whole(config.rope, config);
  const Rotation all = rotation_of(whole, 4000), before = rotation_of(table, 10);
  EXPECT_TRUE(rotation_of(table, 3).cos.is_same(before.cos)) << "nothing is made twice";
  const Rotation after = rotation_of(table, 4000);
  EXPECT_TRUE(at::equal(after.cos, all.cos));
  EXPECT_TRUE(at::equal(after.sin, all.sin));
  EXPECT_TRUE(at::equal(before.cos, all.cos.narrow(0, 0, 10))) << "what was handed out stays valid";
}

TEST(RopeTable, PositionsStartAtZeroInEachDocumentOrAfterItsPrefix) {
  const ModelConfig config = config_of(10000, 8);
  RopeTable table(config.rope, config);
  const std::vector<int64_t> begin = {0, 4, 5, 8}, prefix = {0, 0, 3}, lengths = {4, 1, 6};
  EXPECT_TRUE(at::equal(table.of_documents({begin, {}}).positions, at::tensor({0, 1, 2, 3, 0, 0, 1, 2}, at::kInt)));
  EXPECT_TRUE(at::equal(table.of_documents({begin, prefix}).positions, at::tensor({0, 1, 2, 3, 0, 3, 4, 5}, at::kInt)));
  EXPECT_TRUE(at::equal(table.of_last_tokens(lengths).positions, at::tensor({3, 0, 5}, at::kInt)));
}

/// Cosines of each token of a document in a batch equal those of the document alone.
TEST(RopeTable, DependsOnTheLengthOfTheDocumentNotOfTheBatch) {
  for (const RopeConfig::Kind kind : {RopeConfig::Kind::kDynamic, RopeConfig::Kind::kLongRope}) {
    ModelConfig config = config_of(10000, 8);
    config.max_position_embeddings = 6;
    config.rope.kind = kind;
    config.rope.factor = 4;
    config.rope.original_max_position_embeddings = 6;
    config.rope.short_factor = {1, 1.1, 1.2, 1.3};
    config.rope.long_factor = {1, 2, 3, 4};
    RopeTable table(config.rope, config), other(config.rope, config);
    const std::vector<int64_t> begin = {0, 5, 11, 20, 27}, lengths = {5, 6, 9, 7};
    const Rotation all = table.of_documents({begin, {}});
    for (size_t i = 0; i < lengths.size(); ++i) {
      const Rotation alone = rotation_of(other, lengths[i]);
      const at::Tensor rows = all.positions.narrow(0, begin[i], lengths[i]).to(at::kLong);
      EXPECT_TRUE(at::equal(all.cos.index_select(0, rows), alone.cos.narrow(0, 0, lengths[i]))) << i;
    }
    EXPECT_FALSE(at::equal(rotation_of(other, 7).cos.narrow(0, 0, 6), rotation_of(other, 6).cos.narrow(0, 0, 6)));
  }
}

}  // namespace
}  // namespace plumb
