// Gather and reduce-scatter of units on one node and on several, compared bit by bit.
#include "partition/node_exchange.hpp"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "partition/sharded_model.hpp"
#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

class ExchangeOnNodes : public testing::TestWithParam<int> {};  // ranks per node; 0: all on one

/// Small integers, which bfloat16 holds exactly and sums of which are exact in any order.
float value_of(int rank, int unit, int64_t element) {
  return static_cast<float>((rank * 5 + unit * 3 + element) % 17 - 8);
}

TEST_P(ExchangeOnNodes, GatherReturnsTheShardsOfAllRanks) {
  const Communicator comm(GetParam());
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const std::vector<ShardLayout> units = shard_layouts(test::tiny_config(), comm.size());
    NodeExchange exchange(comm, units, plan_buffers(units, false, static_cast<int64_t>(at::elementSize(dtype))),
                          {.dtype = dtype});
    std::vector<CollectiveRecord> records;
    exchange.observe([&](const CollectiveRecord& record) { records.push_back(record); });
    std::vector<std::vector<float>> shards;
    for (int unit = 0; unit < std::ssize(units); ++unit) {
      std::vector<float>& shard = shards.emplace_back();
      for (int64_t i = 0; i < units[unit].shard_elements(); ++i) shard.push_back(value_of(comm.rank(), unit, i));
    }
    const int num_gathers = exchange.plan().num_forward_gathers;
    const auto unit_of = [&](int gather) { return exchange.plan().gathers[gather].unit; };
    exchange.start_gather(0, std::span<const float>(shards[unit_of(0)]));
    for (int gather = 0; gather < num_gathers; ++gather) {
      const at::Tensor flat = exchange.finish_gather(gather);
      if (gather + 1 < num_gathers)
        exchange.start_gather(gather + 1, std::span<const float>(shards[unit_of(gather + 1)]));
      ASSERT_EQ(flat.scalar_type(), dtype);
      ASSERT_EQ(flat.numel(), units[unit_of(gather)].padded_elements());
      const at::Tensor values = flat.to(at::kFloat);
      const int64_t shard_elements = units[unit_of(gather)].shard_elements();
      for (int64_t i = 0; i < values.numel(); ++i)
        ASSERT_EQ(values.data_ptr<float>()[i],
                  value_of(static_cast<int>(i / shard_elements), unit_of(gather), i % shard_elements))
            << "element " << i << " of gather " << gather;
      exchange.release_gather();
    }
    EXPECT_EQ(std::ssize(records), num_gathers);
  }
}

TEST_P(ExchangeOnNodes, ReduceScatterSumsRanksAndMicroBatches) {
  constexpr int64_t kMicroBatches = 3;
  const Communicator comm(GetParam());
  const std::vector<ShardLayout> units = shard_layouts(test::tiny_config(), comm.size());
  NodeExchange exchange(comm, units, plan_buffers(units, false, 4), {.accumulation_steps = kMicroBatches});
  const int num_reduces = static_cast<int>(exchange.plan().reduces.size());
  const int64_t num_levels = max_open_subtrees(comm.size(), kMicroBatches, Reduction::kCanonical);
  std::vector<std::vector<std::vector<float>>> sums(num_reduces);
  std::vector<std::vector<float*>> levels(num_reduces);
  for (int reduce = 0; reduce < num_reduces; ++reduce)
    for (int64_t level = 0; level < num_levels; ++level)
      sums[reduce].emplace_back(units[exchange.plan().reduces[reduce].unit].shard_elements());
  for (int reduce = 0; reduce < num_reduces; ++reduce)
    for (std::vector<float>& level : sums[reduce]) levels[reduce].push_back(level.data());

  for (int64_t a = 0; a < kMicroBatches; ++a)
    for (int reduce = 0; reduce <= num_reduces; ++reduce) {
      if (reduce < num_reduces) {
        const int unit = exchange.plan().reduces[reduce].unit;
        const at::Tensor gradient = exchange.gradient_buffer(reduce);
        for (const ElementRange& gap : units[unit].gaps())
          for (int64_t i = gap.begin; i < gap.end; ++i) ASSERT_EQ(gradient.data_ptr<float>()[i], 0.0f) << "a gap";
        for (int64_t i = 0; i < gradient.numel(); ++i)
          gradient.data_ptr<float>()[i] = value_of(comm.rank(), unit, i) * static_cast<float>(a + 1);
        exchange.start_reduce(reduce, a, levels[reduce]);
      }
      if (reduce > 0) exchange.finish_reduce(reduce - 1);
    }

  for (int reduce = 0; reduce < num_reduces; ++reduce) {
    const int unit = exchange.plan().reduces[reduce].unit;
    const int64_t begin = units[unit].shard(comm.rank()).begin;
    const int64_t end = exchange.plan().reduces[reduce].num_rows > 0 ? units[unit].unit().num_elements : INT64_MAX;
    for (int64_t i = 0; i < units[unit].shard_elements() && begin + i < end; ++i) {  // padding after rows stays zero
      float expected = 0;
      for (int rank = 0; rank < comm.size(); ++rank) expected += 6 * value_of(rank, unit, begin + i);  // 1 + 2 + 3
      ASSERT_EQ(sums[reduce][0][i], expected) << "element " << i << " of unit " << unit;
    }
  }
}

TEST_P(ExchangeOnNodes, ReduceScatterOfRowsKnowsTheOthersAsZero) {
  constexpr int64_t kMicroBatches = 3;
  const Communicator comm(GetParam());
  const std::vector<ShardLayout> units = shard_layouts(test::tiny_config(), comm.size());
  NodeExchange exchange(comm, units, plan_buffers(units, false, 4), {.accumulation_steps = kMicroBatches});
  const int reduce = static_cast<int>(exchange.plan().reduces.size()) - 1;
  const ShardLayout& layout = units[0];
  const int64_t width = exchange.plan().reduces[reduce].row_elements;
  ASSERT_EQ(exchange.plan().reduces[reduce].num_rows, test::tiny_config().vocab_size);
  std::vector<std::vector<float>> sums(max_open_subtrees(comm.size(), kMicroBatches, Reduction::kCanonical),
                                       std::vector<float>(layout.shard_elements(), NAN));
  std::vector<float*> levels;
  for (std::vector<float>& level : sums) levels.push_back(level.data());
  const auto row_of = [](int rank, int64_t a) { return 2 * rank + 3 * a; };  // and row 1, twice
  for (int64_t a = 0; a < kMicroBatches; ++a) {
    exchange.gradient_buffer(reduce).fill_(NAN);
    const std::vector<int64_t> rows = {row_of(comm.rank(), a), 1, 1};
    const at::Tensor gradient = exchange.gradient_rows(reduce, rows);
    for (const int64_t row : rows) gradient.narrow(0, row * width, width).add_(1);
    exchange.start_reduce(reduce, a, levels);
    exchange.finish_reduce(reduce);
  }
  std::vector<float> expected(layout.padded_elements());
  for (int rank = 0; rank < comm.size(); ++rank)
    for (int64_t a = 0; a < kMicroBatches; ++a)
      for (const int64_t row : {row_of(rank, a), int64_t{1}, int64_t{1}})
        for (int64_t i = 0; i < width; ++i) ++expected[row * width + i];
  const int64_t begin = layout.shard(comm.rank()).begin;
  for (int64_t i = 0; i < layout.shard_elements(); ++i) ASSERT_EQ(sums[0][i], expected[begin + i]) << "element " << i;
}

INSTANTIATE_TEST_SUITE_P(RanksPerNode, ExchangeOnNodes, testing::Values(0, 1, 2));

}  // namespace
}  // namespace plumb
