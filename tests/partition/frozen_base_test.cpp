// A frozen base returns every unit complete, on one node, where ranks share it, and on several, where it is gathered.
#include "partition/frozen_base.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

class FrozenBaseOnNodes : public testing::TestWithParam<int> {};  // ranks per node; 0: all on one

float value_of(const Parameter& p, int64_t index) {
  return static_cast<float>((static_cast<int64_t>(p.kind) * 7 + p.layer * 3 + index) % 31 - 15);
}

FrozenSource source() {
  return {[](const UnitLayout& layout, int64_t begin, int64_t end, std::span<float> out) {
            std::fill(out.begin(), out.end(), 0.0f);
            for (const Parameter& p : layout.parameters)
              for (int64_t i = std::max(begin, p.offset); i < std::min(end, p.offset + p.num_elements()); ++i)
                out[i - begin] = value_of(p, i - p.offset);
          },
          {}};
}

void expect_values(const at::Tensor& tensor, const Parameter& p, const char* what) {
  ASSERT_TRUE(tensor.defined()) << what;
  const at::Tensor values = tensor.to(at::kFloat).contiguous();
  ASSERT_GE(values.numel(), p.num_elements());
  for (int64_t i = 0; i < p.num_elements(); ++i)
    ASSERT_EQ(values.data_ptr<float>()[i], value_of(p, i)) << what << ", element " << i;
}

const Parameter& find(const UnitLayout& unit, ParameterKind kind) {
  for (const Parameter& p : unit.parameters)
    if (p.kind == kind) return p;
  ADD_FAILURE() << "no such parameter";
  return unit.parameters.front();
}

TEST_P(FrozenBaseOnNodes, GivesEveryUnitInTheOrderOfAPass) {
  const Communicator comm(GetParam());
  const ModelConfig config = test::tiny_config();
  const std::vector<UnitLayout> layouts = unit_layouts(config);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const auto nothing_quantized = [](const Parameter&) { return std::optional<Nf4Format>(); };
    FrozenBase base(config, comm, dtype,
                    frozen_units(config, {}, static_cast<int64_t>(at::elementSize(dtype)), nothing_quantized), 1);
    base.load(source());
    comm.barrier();
    for (int pass = 0; pass < 2; ++pass) {
      // embedding, blocks 0 to 2, head, then down to the lowest trained block, which is 1
      const std::vector<int> units = {0, 1, 2, 3, 4, 3, 2};
      base.start(0);
      for (int operation = 0; operation < std::ssize(units); ++operation) {
        const at::Tensor bytes = base.finish(operation);
        base.start(operation + 1);
        const int unit = units[operation];
        if (unit == 0)
          expect_values(base.embedding_VD(bytes), find(layouts[0], ParameterKind::kEmbedding), "the embedding");
        else if (unit == 4)
          expect_values(base.head(unit, bytes).head_VD, find(layouts[4], ParameterKind::kHead), "the head");
        else
          expect_values(base.block(unit, bytes)[Product::kDown].weight(), find(layouts[unit], ParameterKind::kDown),
                        "a block");
        base.release();
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(RanksPerNode, FrozenBaseOnNodes, testing::Values(0, 1, 2));

}  // namespace
}  // namespace plumb
