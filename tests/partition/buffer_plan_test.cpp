#include "partition/buffer_plan.hpp"

#include <gtest/gtest.h>

#include "partition/sharded_model.hpp"
#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

std::vector<int> units_of(const std::vector<UnitOperation>& operations) {
  std::vector<int> units;
  for (const UnitOperation& operation : operations) units.push_back(operation.unit);
  return units;
}

TEST(BufferPlan, ListsTheScheduleOfZero3) {
  const auto plan = plan_buffers(shard_layouts(test::tiny_config(false), 2), false, 4);
  EXPECT_EQ(units_of(plan.gathers), (std::vector<int>{0, 1, 2, 3, 4, 3, 2, 1}));
  EXPECT_EQ(units_of(plan.reduces), (std::vector<int>{4, 3, 2, 1, 0}));
  const auto tied = plan_buffers(shard_layouts(test::tiny_config(true), 2), true, 4);
  EXPECT_EQ(units_of(tied.gathers), (std::vector<int>{0, 1, 2, 3, 0, 3, 2, 1}));
  EXPECT_EQ(units_of(tied.reduces), (std::vector<int>{3, 2, 1, 0}));
}

bool overlap(const Buffer& a, const Buffer& b) {
  return a.offset_bytes < b.offset_bytes + b.bytes && b.offset_bytes < a.offset_bytes + a.bytes;
}

TEST(BufferPlan, NeighboursNeverShareMemory) {
  for (bool is_tied : {false, true}) {
    for (int64_t element_bytes : {2, 4}) {
      const auto plan = plan_buffers(shard_layouts(test::tiny_config(is_tied), 3), is_tied, element_bytes);
      for (const auto* operations : {&plan.gathers, &plan.reduces})
        for (size_t i = 1; i < operations->size(); ++i)
          EXPECT_FALSE(overlap((*operations)[i - 1].buffer, (*operations)[i].buffer)) << "operation " << i;
      if (!is_tied) continue;
      for (size_t i = 0; i + 1 < plan.reduces.size(); ++i)  // the tied embedding collects while all blocks reduce
        EXPECT_FALSE(overlap(plan.reduces[i].buffer, plan.reduces.back().buffer));
    }
  }
}

TEST(BufferPlan, TakesTwoNeighboursOfMemoryAndNoMore) {
  const auto units = shard_layouts(test::tiny_config(false), 2);
  const auto plan = plan_buffers(units, false, 4);
  int64_t most = 0;
  for (size_t i = 1; i < plan.gathers.size(); ++i)
    most = std::max(most, plan.gathers[i - 1].buffer.bytes + plan.gathers[i].buffer.bytes);
  EXPECT_EQ(plan.slot_bytes, most);
}

}  // namespace
}  // namespace plumb
