// Sums by hand. tiny_config(): d = 40, f = 52, q is [40, 40], k and v are [20, 40] with biases, V = 97, 3 layers.
#include "partition/memory_plan.hpp"

#include <gtest/gtest.h>

#include "lib/base/check.hpp"
#include "partition/step_cost.hpp"
#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

using enum ParameterKind;

Adapter adapter_on(const std::vector<ParameterKind>& kinds, int64_t num_layers, int64_t rank, int64_t first_layer = 0) {
  Adapter adapter;
  for (int64_t layer = first_layer; layer < num_layers; ++layer)
    for (const ParameterKind kind : kinds) adapter.targets.push_back({kind, layer, rank, 1.0});
  return adapter;
}

PlanInput tiny_input() {
  return {.config = test::tiny_config(), .micro_batch_tokens = 10, .adapter = adapter_on({kQ, kV}, 3, 2)};
}

TEST(MemoryPlan, WholeModelTakesSixteenBytesPerParameter) {
  PlanInput input = tiny_input();
  input.adapter.reset();
  const MemoryPlan plan = plan_memory(input);
  // 3880 of the embedding, 40 and 3880 of the head; a block: 3200, 1600, 4160 and 2080 of matrices, 80 biases, 80 norms
  EXPECT_EQ(plan.num_parameters, 3880 + 3920 + 3 * 11200);
  EXPECT_EQ(plan.num_trained_parameters, plan.num_parameters);
  // units of 3880, 11296 and 3944 elements with the gaps, at multiples of 256
  EXPECT_EQ(plan.parameter_bytes, 4 * (4096 + 3 * 11520 + 4096));
  EXPECT_EQ(plan.moment_bytes, 2 * plan.parameter_bytes);
  EXPECT_EQ(plan.gradient_bytes, plan.parameter_bytes);
  EXPECT_EQ(plan.base_bytes + plan.base_shard_bytes + plan.scratch_bytes, 0);
  EXPECT_EQ(plan.node_bytes(), plan.gather_buffer_bytes);
  input.has_8bit_moments = true;  // blocks only: embedding and head have fewer than 4096 elements
  EXPECT_EQ(plan_memory(input).moment_bytes, 8 * (4096 + 4096) + 3 * 2 * (11520 + 4 * 11520 / 256));
}

TEST(MemoryPlan, AdapterIsAFrozenBaseAndASmallUnit) {
  const PlanInput input = tiny_input();
  const MemoryPlan plan = plan_memory(input);
  // per layer A of q and v [2, 40] each, B [40, 2] and [20, 2]
  EXPECT_EQ(plan.num_trained_parameters, 3 * (80 + 80 + 80 + 40));
  EXPECT_EQ(plan.num_parameters, 3880 + 3920 + 3 * 11200 + plan.num_trained_parameters);
  // a layer: 160 elements, 80 from 192 on, 40 from 320 on, the next from 384 on; 1128 in all
  EXPECT_EQ(plan.parameter_bytes, 4 * 1280);
  EXPECT_EQ(plan.moment_bytes, 8 * 1280);
  EXPECT_EQ(plan.gradient_bytes, 4 * 1280);
  EXPECT_EQ(plan.gradient_buffer_bytes, 4 * 1280);
  EXPECT_EQ(plan.gather_buffer_bytes, 4 * 1280);
  // bytes of units at multiples of 256: 15520, 45184 and 15776
  EXPECT_EQ(plan.base_bytes, 15616 + 3 * 45312 + 15872);
  EXPECT_EQ(plan.base_shard_bytes, 0);
  EXPECT_EQ(plan.scratch_bytes, 0);
  EXPECT_EQ(plan.exchange_bytes, 0);
  EXPECT_EQ(plan.gathers_per_step, 1);
  EXPECT_EQ(plan.reduces_per_step, 1);
  EXPECT_EQ(plan.total_bytes(1, 1), plan.rank_bytes() + plan.gather_buffer_bytes + plan.base_bytes);
}

TEST(MemoryPlan, QuantizedBaseHasFourBitMatricesAndScratch) {
  PlanInput input = tiny_input();
  input.nf4_format = nested_nf4;
  input.element_bytes = 2;
  const MemoryPlan plan = plan_memory(input);
  // codes, scales, and 1152 bytes for nested scales: 1600 elements take 832 + 64 + 1152 = 2048 bytes,
  // 800 take 1664, 2080 take 2304; norms and biases 464; 464 and 14336 at a multiple of 64, then of 256
  EXPECT_EQ(plan.base_bytes, 7936 + 3 * (512 + 2 * 2048 + 2 * 1664 + 3 * 2304) + 7936);
  EXPECT_EQ(plan.scratch_bytes, 2 * 104 * 40) << "gate and up";
  EXPECT_EQ(plan.parameter_bytes, 4 * 1280) << "trained in float32";
  EXPECT_EQ(plan.gather_buffer_bytes, 2 * 1280) << "used in bfloat16";
}

TEST(MemoryPlan, AdapterOnSeveralNodesShardsTheBase) {
  PlanInput input = tiny_input();
  input.num_ranks = 4;
  input.ranks_per_node = 2;
  input.accumulation_steps = 3;
  const MemoryPlan plan = plan_memory(input);
  EXPECT_EQ(plan.base_bytes, 0);
  // bytes of units at multiples of 1024: 16384, 46080 and 16384
  EXPECT_EQ(plan.base_shard_bytes, (16384 + 3 * 46080 + 16384) / 4);
  EXPECT_EQ(plan.parameter_bytes, 4 * 512);
  EXPECT_EQ(plan.exchange_bytes, 2 * 4 * 512);
  EXPECT_EQ(plan.gather_buffer_bytes, 4 * 2048 + 2 * 46080) << "a unit of the base in use, and the next";
  // the adapter; embedding, three blocks, head, three blocks down
  EXPECT_EQ(plan.gathers_per_step, 3 * (1 + 5 + 3));
  EXPECT_EQ(plan.gather_bytes_per_step, 3 * (4 * 2048 + 2 * 16384 + 6 * 46080));
  EXPECT_EQ(plan.reduce_bytes_per_step, 3 * 4 * 2048);
  input.adapter = adapter_on({kQ, kV}, 3, 2, /*first_layer=*/2);
  EXPECT_EQ(plan_memory(input).gathers_per_step, 3 * (1 + 5 + 1)) << "backward ends at the lowest adapter";
}

TEST(MemoryPlan, CountsActivationsFromTheLowestAdapter) {
  PlanInput input = tiny_input();
  input.has_gradient_checkpointing = false;
  const int64_t two = plan_memory(input).activation_bytes;
  input.adapter = adapter_on({kQ, kV}, 3, 7);
  // saved in three layers, plus one working set: 5 more for both q and v
  EXPECT_EQ(plan_memory(input).activation_bytes - two, 10 * 4 * (3 + 1) * 2 * 5);
  input.adapter->has_magnitudes = true;
  const int64_t dora = plan_memory(input).activation_bytes;
  input.adapter->has_magnitudes = false;
  EXPECT_EQ(dora - plan_memory(input).activation_bytes, 10 * 4 * (3 + 2) * (40 + 20));
  input.has_gradient_checkpointing = true;
  const int64_t all_layers = plan_memory(input).activation_bytes;
  input.adapter = adapter_on({kQ, kV}, 3, 7, /*first_layer=*/1);
  EXPECT_EQ(all_layers - plan_memory(input).activation_bytes, 10 * 4 * 40) << "the input of one block less";
}

TEST(MemoryPlan, QloraOnLlama8BMatchesThePaper) {
  ModelConfig config;
  config.family = Family::kLlama;
  config.vocab_size = 128256;
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.num_layers = 32;
  config.num_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.sliding_window.assign(32, 0);
  const MemoryPlan plan = plan_memory({.config = config,
                                       .element_bytes = 2,
                                       .adapter = adapter_on({kQ, kK, kV, kO, kGate, kUp, kDown}, 32, 16),
                                       .nf4_format = nested_nf4});
  EXPECT_NEAR(static_cast<double>(plan.num_trained_parameters), 41.94e6, 0.01e6);
  // 6.98 billion elements in 4.127 bits, embedding and head in bfloat16: 2 x 128256 x 4096 x 2 bytes
  EXPECT_NEAR(static_cast<double>(plan.base_bytes), 6.9795e9 * 4.127 / 8 + 2.1013e9, 0.01e9);
  EXPECT_EQ(plan.scratch_bytes, int64_t{2} * 2 * 14336 * 4096);
}

/// 1e9 operations, 1e6 bytes of memory and 1e3 bytes between hosts a second.
Machine slow_machine() { return {{{256, 1e9}, {1024, 3e9}}, {{256, 4e9}}, 1e6, 0.5, 1e3}; }

TEST(StepCost, CountsOperationsAndBytesOfFullMicroBatches) {
  PlanInput input = tiny_input();
  input.adapter.reset();
  input.has_gradient_checkpointing = false;
  input.accumulation_steps = 2;
  const MemoryPlan plan = plan_memory(input);
  const StepCost cost = cost_of_step(input, plan, /*text_tokens=*/5, slow_machine());
  EXPECT_EQ(cost.num_tokens, 20);
  // a block: 3200, 1600, 4160 and 2080 elements of matrices; the head 3880; forward, and backward of both factors
  EXPECT_DOUBLE_EQ(cost.product_flops, 20.0 * 2 * 3 * (3 * 11040 + 3880));
  EXPECT_DOUBLE_EQ(cost.products, cost.product_flops / 1e9);
  // 40 columns of queries, 3 tokens on the average, 3 layers; at half the rate
  EXPECT_DOUBLE_EQ(cost.attention, 20.0 * 3.5 * 4 * 40 * 3 * 3 / 0.5e9);
  EXPECT_DOUBLE_EQ(cost.kernels, 20.0 * (3 * 3 * 4 * (8 * 40 + 2 * 80 + 3 * 52) + 4 * 4 * 97) / 1e6);
  EXPECT_DOUBLE_EQ(cost.update, 28.0 * static_cast<double>(plan.num_parameters) / 1e6);
  EXPECT_EQ(cost.network, 0);

  input.has_gradient_checkpointing = true;
  EXPECT_DOUBLE_EQ(cost_of_step(input, plan, 5, slow_machine()).product_flops, 20.0 * 2 * (4 * 3 * 11040 + 3 * 3880));
  input.element_bytes = 2;
  EXPECT_DOUBLE_EQ(cost_of_step(input, plan, 5, slow_machine()).products, 20.0 * 2 * (4 * 3 * 11040 + 3 * 3880) / 4e9);
}

TEST(StepCost, AdapterNeedsNoGradientsOfTheBase) {
  PlanInput input = tiny_input();
  input.has_gradient_checkpointing = false;
  input.adapter = adapter_on({kQ}, 3, 2, /*first_layer=*/2);
  // two blocks forward only; the third and the head forward and back to their inputs; A [2, 40] and B [40, 2]
  EXPECT_DOUBLE_EQ(cost_of_step(input, plan_memory(input), 10, slow_machine()).product_flops,
                   10.0 * 2 * (2 * 11040 + 2 * 11040 + 2 * 3880 + 3 * 160));
}

TEST(StepCost, RanksShareUpdateAndWire) {
  PlanInput input = tiny_input();
  input.adapter.reset();
  input.num_ranks = 4;
  input.ranks_per_node = 2;
  const MemoryPlan plan = plan_memory(input);
  const StepCost cost = cost_of_step(input, plan, 10, slow_machine());
  const auto bytes = static_cast<double>(plan.gather_bytes_per_step + plan.reduce_bytes_per_step);
  EXPECT_DOUBLE_EQ(cost.network_bytes, bytes / 2);  // the other half is on this host
  EXPECT_DOUBLE_EQ(cost.network,
                   bytes / 2 / 1e3 + 0.5 * static_cast<double>(plan.gathers_per_step + plan.reduces_per_step));
  EXPECT_DOUBLE_EQ(cost.update, 28.0 * static_cast<double>(plan.num_parameters) / 4 / 1e6);
  Machine lonely = slow_machine();
  lonely.network_bytes_per_second = 0;
  EXPECT_THROW(cost_of_step(input, plan, 10, lonely), UsageError);
  EXPECT_NE(render_cost(cost, 100).find("100 steps take"), std::string::npos);
}

TEST(StepCost, RateOfASizeLiesBetweenTheMeasuredOnes) {
  PlanInput input = tiny_input();
  input.adapter.reset();
  const auto rate_at = [&](int64_t hidden_size) {
    input.config.hidden_size = hidden_size;
    const StepCost cost = cost_of_step(input, plan_memory(input), 10, slow_machine());
    return cost.product_flops / cost.products;
  };
  EXPECT_NEAR(rate_at(512), 2e9, 1);  // halfway between 256 and 1024
  EXPECT_NEAR(rate_at(2048), 3e9, 1);
}

}  // namespace
}  // namespace plumb
