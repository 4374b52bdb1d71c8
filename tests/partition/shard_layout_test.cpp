#include "partition/shard_layout.hpp"

#include <gtest/gtest.h>

#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

TEST(ShardLayout, EveryElementHasExactlyOneOwner) {
  for (const UnitLayout& unit : unit_layouts(test::tiny_config())) {
    for (int ranks : {1, 2, 3, 5, 8, 16}) {
      const ShardLayout layout(unit, ranks);
      int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        EXPECT_EQ(layout.shard(rank).begin, next);
        EXPECT_EQ(layout.shard(rank).size() % kShardAlignment, 0);
        next = layout.shard(rank).end;
      }
      EXPECT_EQ(next, layout.padded_elements());
      EXPECT_GE(next, unit.num_elements);
      EXPECT_LT(next, unit.num_elements + ranks * kShardAlignment);
    }
  }
}

TEST(ShardLayout, ParametersAndGapsCoverTheUnitOnce) {
  for (const UnitLayout& unit : unit_layouts(test::tiny_config())) {
    const ShardLayout layout(unit, 3);
    std::vector<int> covered(layout.padded_elements());
    const auto cover = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++covered[i];
    };
    for (const Parameter& p : unit.parameters) cover(p.offset, p.offset + p.num_elements());
    for (const ElementRange& gap : layout.gaps()) cover(gap.begin, gap.end);
    EXPECT_EQ(std::count(covered.begin(), covered.end(), 1), std::ssize(covered));
  }
}

TEST(ShardLayout, DecayRunsCoverAShardAndSpareNormsAndBiases) {
  for (const UnitLayout& unit : unit_layouts(test::tiny_config())) {
    for (int ranks : {1, 3, 8}) {
      const ShardLayout layout(unit, ranks);
      for (int rank = 0; rank < ranks; ++rank) {
        const ElementRange shard = layout.shard(rank);
        int64_t next = 0;
        for (const DecayRun& run : layout.decay_runs(rank)) {
          EXPECT_EQ(run.begin, next);
          next = run.end;
          for (const Parameter& p : unit.parameters) {
            const bool overlaps =
                p.offset < shard.begin + run.end && shard.begin + run.begin < p.offset + p.num_elements();
            if (overlaps) {
              EXPECT_EQ(run.is_decayed, p.shape.size() > 1);
            }
          }
        }
        EXPECT_EQ(next, shard.size());
      }
    }
  }
}

}  // namespace
}  // namespace plumb
