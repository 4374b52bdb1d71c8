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

TEST(BufferPlan, NeighborsNeverShareMemory) {
  for (bool is_tied : {false, true}) {
    for (int64_t element_bytes : {2, 4}) {
      const auto plan = plan_buffers(shard_layouts(test::tiny_config(is_tied), 3), is_tied, element_bytes);
      for (const auto* operations : {&plan.gathers, &plan.reduces})
        for (size_t i = 1; i < operations->size(); ++i)
          EXPECT_FALSE(overlap((*operations)[i - 1].buffer, (*operations)[i].buffer)) << "operation " << i;
      if (!is_tied) continue;
      for (size_t i = 0; i + 1 < plan.reduces.size(); ++i)  // the tied embedding accumulates while all blocks reduce
        EXPECT_FALSE(overlap(plan.reduces[i].buffer, plan.reduces.back().buffer));
    }
  }
}

TEST(BufferPlan, OneRankNeedsNoBuffersInPlace) {
  const auto units = shard_layouts(test::tiny_config(false), 1);
  const auto bytes = [&](size_t unit) { return units[unit].padded_elements() * 4; };
  int64_t all_bytes = 0;
  for (size_t unit = 0; unit < units.size(); ++unit) all_bytes += bytes(unit);

  const auto fast = plan_buffers(units, false, 4, in_place(1, 8, Reduction::kFast));
  EXPECT_EQ(fast.gather_buffer_bytes, 0);
  EXPECT_EQ(fast.gradient_bytes, bytes(4)) << "the head's";
  for (const UnitOperation& reduce : fast.reduces) {
    EXPECT_EQ(reduce.is_in_place, reduce.unit != 4);
    EXPECT_EQ(reduce.buffer.bytes, bytes(reduce.unit)) << "as counted of any rank";
  }
  const auto canonical = plan_buffers(units, false, 4, in_place(1, 8, Reduction::kCanonical));
  EXPECT_EQ(canonical.gather_buffer_bytes, 0);
  EXPECT_GT(canonical.gradient_bytes, fast.gradient_bytes);

  const auto narrow = plan_buffers(units, false, 2, in_place(1, 8, Reduction::kFast));
  EXPECT_EQ(narrow.gather_buffer_bytes, all_bytes / 2) << "each unit's own";
  for (size_t i = 0; i < narrow.gathers.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      EXPECT_EQ(overlap(narrow.gathers[i].buffer, narrow.gathers[j].buffer),
                narrow.gathers[i].unit == narrow.gathers[j].unit);
  for (const UnitOperation& reduce : narrow.reduces) EXPECT_EQ(reduce.is_in_place, reduce.unit == 0);
  EXPECT_FALSE(in_place(2, 1, Reduction::kFast).gradients || in_place(2, 1, Reduction::kFast).parameters);
}

TEST(BufferPlan, TakesTheMemoryOfTwoNeighbors) {
  const auto units = shard_layouts(test::tiny_config(false), 2);
  const auto plan = plan_buffers(units, false, 4);
  int64_t most = 0;
  for (size_t i = 1; i < plan.gathers.size(); ++i)
    most = std::max(most, plan.gathers[i - 1].buffer.bytes + plan.gathers[i].buffer.bytes);
  EXPECT_EQ(plan.gather_buffer_bytes, most);
}

}  // namespace
}  // namespace plumb
