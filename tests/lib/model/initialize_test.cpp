#include "lib/model/initialize.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "lib/model/model_config.hpp"

namespace plumb {
namespace {

ModelConfig biased_config() {
  ModelConfig config;
  config.family = Family::kQwen2;
  config.vocab_size = 301;
  config.hidden_size = 60;
  config.intermediate_size = 90;
  config.num_layers = 2;
  config.num_heads = 3;
  config.num_kv_heads = 1;
  config.head_dim = 20;
  config.sliding_window = {0, 0};
  config.has_qkv_bias = true;
  return config;
}

std::vector<float> whole(const UnitLayout& unit, uint64_t seed = 42) {
  std::vector<float> values(unit.num_elements);
  initialize_unit_range(unit, biased_config(), seed, 0, unit.num_elements, values);
  return values;
}

TEST(InitializeUnitRange, IsTheSameForAnySplit) {
  for (const UnitLayout& unit : unit_layouts(biased_config())) {
    const std::vector<float> expected = whole(unit);
    std::vector<float> got(expected.size(), -1.0f);
    const int64_t piece = 997;
    for (int64_t begin = 0; begin < unit.num_elements; begin += piece) {
      const int64_t end = std::min(begin + piece, unit.num_elements);
      initialize_unit_range(unit, biased_config(), 42, begin, end, std::span(got).subspan(begin, end - begin));
    }
    EXPECT_EQ(got, expected) << unit.name;
  }
}

TEST(InitializeUnitRange, NormsAreOneBiasesAndGapsZeroMatricesNormal) {
  for (const UnitLayout& unit : unit_layouts(biased_config())) {
    const std::vector<float> values = whole(unit);
    std::vector<bool> is_parameter(values.size(), false);
    for (const Parameter& parameter : unit.parameters) {
      double sum = 0, squares = 0;
      const auto n = static_cast<double>(parameter.num_elements());
      for (int64_t i = 0; i < parameter.num_elements(); ++i) {
        const auto at = static_cast<size_t>(parameter.offset + i);
        is_parameter[at] = true;
        sum += values[at];
        squares += static_cast<double>(values[at]) * values[at];
      }
      if (parameter.is_decayed()) {
        EXPECT_NEAR(sum / n, 0.0, 5 * 0.02 / std::sqrt(n)) << unit.name;
        EXPECT_NEAR(std::sqrt(squares / n), 0.02, 5 * 0.02 / std::sqrt(2 * n)) << unit.name;
      } else {
        using enum ParameterKind;
        const bool is_bias = parameter.kind == kQBias || parameter.kind == kKBias || parameter.kind == kVBias;
        EXPECT_EQ(sum, is_bias ? 0.0 : n);
        EXPECT_EQ(squares, is_bias ? 0.0 : n);
      }
    }
    for (size_t i = 0; i < values.size(); ++i) EXPECT_TRUE(is_parameter[i] || values[i] == 0.0f) << i;
  }
}

TEST(InitializeUnitRange, ParametersAndSeedsDiffer) {
  const std::vector<UnitLayout> units = unit_layouts(biased_config());
  const std::vector<float> first = whole(units[1]), second = whole(units[2]);
  for (const Parameter& a : units[1].parameters) {
    if (!a.is_decayed()) continue;
    const auto at = static_cast<size_t>(a.offset);
    EXPECT_NE(first[at], second[at]);  // the same parameter of another layer
    for (const Parameter& b : units[1].parameters) EXPECT_TRUE(b.offset == a.offset || first[at] != first[b.offset]);
  }
  EXPECT_NE(whole(units[0], 1), whole(units[0], 2));
}

TEST(InitializeUnitRange, PastTheUnitIsZero) {
  const UnitLayout unit = unit_layouts(biased_config())[1];
  std::vector<float> values(100, -1.0f);
  initialize_unit_range(unit, biased_config(), 42, unit.num_elements, unit.num_elements + 100, values);
  EXPECT_EQ(values, std::vector<float>(100, 0.0f));
}

}  // namespace
}  // namespace plumb
