// The layout of the parameters of an adapter.
#include "lib/model/lora.hpp"

#include <gtest/gtest.h>

#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

using enum ParameterKind;

TEST(AdapterLayout, MatricesOfOneInputAreAdjacent) {
  const ModelConfig config = test::tiny_config(false);
  const Adapter adapter{{{kQ, 0, 3, 2.0}, {kV, 0, 5, 2.0}, {kDown, 0, 2, 1.0}, {kGate, 1, 4, 1.0}, {kUp, 1, 4, 1.0}},
                        {kHead},
                        /*has_magnitudes=*/true,
                        0};
  const UnitLayout unit = adapter_layout(config, adapter);
  ASSERT_EQ(unit.parameters.size(), 5u * 3u + 1u);
  const auto find = [&](ParameterKind kind, AdapterPart part) {
    for (const Parameter& p : unit.parameters)
      if (p.kind == kind && p.part == part) return p;
    ADD_FAILURE() << "a parameter is missing";
    return Parameter{};
  };
  const Parameter a_of_q = find(kQ, AdapterPart::kLoraA), a_of_v = find(kV, AdapterPart::kLoraA);
  EXPECT_EQ(a_of_q.shape, (std::vector<int64_t>{3, config.hidden_size}));
  EXPECT_EQ(a_of_v.offset, a_of_q.offset + a_of_q.num_elements());
  EXPECT_EQ(find(kUp, AdapterPart::kLoraA).offset,
            find(kGate, AdapterPart::kLoraA).offset + find(kGate, AdapterPart::kLoraA).num_elements());
  EXPECT_EQ(find(kDown, AdapterPart::kLoraB).shape, (std::vector<int64_t>{config.hidden_size, 2}));
  EXPECT_EQ(find(kV, AdapterPart::kMagnitude).shape, (std::vector<int64_t>{config.num_kv_heads * config.head_dim}));
  EXPECT_EQ(find(kHead, AdapterPart::kWhole).shape, (std::vector<int64_t>{config.vocab_size, config.hidden_size}));
  int64_t end = 0;
  for (const Parameter& p : unit.parameters) {
    EXPECT_GE(p.offset, end) << "parameters do not overlap";
    if (p.part != AdapterPart::kLoraA) {
      EXPECT_EQ(p.offset % kParameterAlignment, 0);
    }
    end = p.offset + p.num_elements();
  }
  EXPECT_EQ(unit.num_elements, end);
}

TEST(Parameter, AdapterParametersAreDecayed) {
  EXPECT_TRUE((Parameter{kQ, 0, {4}, 0, AdapterPart::kMagnitude}.is_decayed()));
  EXPECT_TRUE((Parameter{kQ, 0, {4, 2}, 0, AdapterPart::kLoraB}.is_decayed()));
  EXPECT_FALSE((Parameter{kInputNorm, 0, {4}, 0}.is_decayed()));
}

}  // namespace
}  // namespace plumb
