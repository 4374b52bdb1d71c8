#include "lib/optim/adamw_8bit.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "lib/base/random.hpp"
#include "lib/optim/adamw_state.hpp"

namespace plumb {
namespace {

constexpr AdamWOptions kOptions{.epsilon = 1e-6, .weight_decay = 0.1};
constexpr int64_t kCount = 256 * 7 + 100;

std::vector<float> random_values(int64_t count, uint64_t stream, double scale = 1) {
  std::vector<float> values(count);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random_normal(5, stream, i) * scale);
  return values;
}

struct Moments {
  std::vector<uint8_t> codes1, codes2;
  std::vector<float> scales1, scales2;

  explicit Moments(int64_t count)
      : codes1(count), codes2(codes1.size()), scales1((codes1.size() + 255) / 256), scales2(scales1.size()) {
    set_to_zero(view());
  }
  Moments8Bit view() { return {codes1, codes2, scales1, scales2}; }
  bool operator==(const Moments&) const = default;
};

/// Quantizes by comparing with all 256 values.
void narrow(const DynamicMap& map, std::span<const float> values, std::vector<uint8_t>& codes,
            std::vector<float>& scales) {
  for (size_t begin = 0; begin < values.size(); begin += 256) {
    const size_t end = std::min(values.size(), begin + 256);
    float scale = 0;
    for (size_t i = begin; i < end; ++i) scale = std::max(scale, std::abs(values[i]));
    scales[begin / 256] = scale;
    const float reciprocal = 1 / std::max(scale, 1e-38f);
    for (size_t i = begin; i < end; ++i) {
      int code = 0;
      for (const float threshold : map.thresholds) code += values[i] * reciprocal > threshold;
      codes[i] = static_cast<uint8_t>(code);
    }
  }
}

std::vector<float> widen(const DynamicMap& map, const std::vector<uint8_t>& codes, const std::vector<float>& scales) {
  std::vector<float> values(codes.size());
  for (size_t i = 0; i < codes.size(); ++i) values[i] = map.values[codes[i]] * scales[i / 256];
  return values;
}

const DecayRun kOneRun[] = {{0, kCount, true}};

TEST(AdamW8Bit, StartsAtZero) {
  Moments moments(kCount);
  for (const float value : widen(dynamic_map(true), moments.codes1, moments.scales1)) EXPECT_EQ(value, 0.0f);
  for (const float value : widen(dynamic_map(false), moments.codes2, moments.scales2)) EXPECT_EQ(value, 0.0f);
}

TEST(AdamW8Bit, EqualsDequantizeUpdateQuantize) {
  Moments got(kCount), expected(kCount);
  std::vector<float> got_parameters = random_values(kCount, 0), expected_parameters = got_parameters;
  for (int64_t step = 1; step <= 5; ++step) {
    const std::vector<float> gradients = random_values(kCount, static_cast<uint64_t>(step));
    adamw_update_8bit(got_parameters, gradients, got.view(), kOneRun, adamw_step(kOptions, 1e-2, step, 0.5));
    std::vector<float> moments1 = widen(dynamic_map(true), expected.codes1, expected.scales1);
    std::vector<float> moments2 = widen(dynamic_map(false), expected.codes2, expected.scales2);
    adamw_update(expected_parameters, gradients, moments1, moments2, adamw_step(kOptions, 1e-2, step, 0.5));
    narrow(dynamic_map(true), moments1, expected.codes1, expected.scales1);
    narrow(dynamic_map(false), moments2, expected.codes2, expected.scales2);
    ASSERT_EQ(got, expected) << step;
    ASSERT_EQ(got_parameters, expected_parameters) << step;
  }
}

TEST(AdamW8Bit, GivesTheSameBitsForAnySplitBetweenBlocks) {
  const std::vector<float> start = random_values(kCount, 0);
  const auto train = [&](int64_t cut) {
    Moments moments(kCount);
    std::vector<float> parameters = start;
    for (int64_t step = 1; step <= 3; ++step) {
      const std::vector<float> gradients = random_values(kCount, static_cast<uint64_t>(step));
      for (const auto& [begin, end] : {std::pair(int64_t{0}, cut), std::pair(cut, kCount)}) {
        const auto first = static_cast<size_t>(begin), count = static_cast<size_t>(end - begin);
        const DecayRun run[] = {{0, end - begin, true}};
        adamw_update_8bit(std::span(parameters).subspan(first, count), std::span(gradients).subspan(first, count),
                          moments.view().subspan(begin, end - begin), run, adamw_step(kOptions, 1e-2, step, 1));
      }
    }
    return std::pair(moments, parameters);
  };
  const auto whole = train(0);
  for (int64_t cut = 256; cut < kCount; cut += 256) EXPECT_EQ(train(cut), whole) << cut;
}

TEST(AdamW8Bit, DecaysByRunsEvenWithinABlock) {
  const DecayRun runs[] = {{0, 100, true}, {100, 300, false}, {300, kCount, true}};
  const std::vector<float> start = random_values(kCount, 0), zeros(kCount);
  std::vector<float> parameters = start;
  Moments moments(kCount);
  adamw_update_8bit(parameters, zeros, moments.view(), runs, adamw_step(kOptions, 0.5, 1, 1));
  for (size_t i = 0; i < start.size(); ++i)
    EXPECT_FLOAT_EQ(parameters[i], i >= 100 && i < 300 ? start[i] : start[i] * 0.95f) << i;
}

/// Minimizes sum a_i (x_i - b_i)^2 / 2 with a_i over two decades, and noise on the gradient; returns the last loss.
double loss_after_training(bool is_8bit) {
  AdamWState state(kCount, is_8bit);
  EXPECT_EQ(state.is_8bit(), is_8bit);
  std::vector<float> x(kCount), gradients(x.size());
  const std::vector<float> target = random_values(kCount, 1);
  const auto curvature = [](size_t i) { return std::pow(10.0f, static_cast<float>(i % 20) / 10.0f); };
  constexpr int64_t kSteps = 300;
  for (int64_t step = 1; step <= kSteps; ++step) {
    const std::vector<float> noise = random_values(kCount, static_cast<uint64_t>(step + 1), 0.1);
    for (size_t i = 0; i < x.size(); ++i) gradients[i] = curvature(i) * (x[i] - target[i] + noise[i]);
    const double rate = 0.05 * (1 - static_cast<double>(step - 1) / kSteps);
    state.update(x, gradients, kOneRun, adamw_step({}, rate, step, 1));
  }
  double loss = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto distance = static_cast<double>(x[i] - target[i]);
    loss += static_cast<double>(curvature(i)) * distance * distance / 2;
  }
  return loss / static_cast<double>(kCount);
}

TEST(AdamW8Bit, ConvergesNearlyAsFarAsIn32Bits) {
  const double wide = loss_after_training(false), narrow = loss_after_training(true);
  EXPECT_LT(wide, 0.01) << "from about 11";
  EXPECT_NE(wide, narrow);
  EXPECT_NEAR(narrow, wide, 0.5 * wide);
}

TEST(AdamWState, UsesAQuarterOfTheMemory) {
  EXPECT_EQ(moment_bytes(1024, false), 8192);
  EXPECT_EQ(moment_bytes(1024, true), 2 * (1024 + 4 * 4));
  EXPECT_EQ(moment_bytes(1025, true), 2 * (1025 + 5 * 4));
  EXPECT_EQ(AdamWState(1025, true).num_bytes(), moment_bytes(1025, true));
  EXPECT_EQ(AdamWState(1025, false).num_bytes(), moment_bytes(1025, false));
  EXPECT_FALSE(has_8bit_moments(4095));
  EXPECT_TRUE(has_8bit_moments(4096));
}

}  // namespace
}  // namespace plumb
