#include "partition/memory_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"
#include "lib/objective/token_loss.hpp"
#include "lib/optim/adamw_state.hpp"
#include "partition/sharded_model.hpp"
#include "partition/shared_memory.hpp"

namespace plumb {

namespace {

/// Bytes per token that block_forward() saves for the backward pass (see BlockActivations), and the peak of temporary
/// tensors in block_backward().
struct BlockBytes {
  int64_t saved;
  int64_t working;
};

BlockBytes block_bytes(const ModelConfig& config, int64_t element) {
  const int64_t d = config.hidden_size, f = config.intermediate_size;
  const int64_t o = config.num_heads * config.head_dim, q = o + 2 * config.num_kv_heads * config.head_dim;
  // attention computes in float32: its saved output, and in the backward pass its converted inputs and outputs
  const bool has_outer_norms =
      config.norm_placement == NormPlacement::kAfter || config.norm_placement == NormPlacement::kAround;
  const int64_t gate_up = config.has_gate() ? 2 * f : f;
  const int64_t saved =
      (2 * d + q + o + gate_up + (config.qk_norm != QkNorm::kNone ? q : 0) + (has_outer_norms ? 2 * d : 0)) * element +
      4 * o + 4 * config.num_heads + 8;
  const int64_t converted = element == 4 ? 0 : 4 * (q + o);
  // feed-forward: dhidden and hidden; attention: dqkv, the operator's own copy of it, dout and dattended
  return {saved, std::max((2 * f + 3 * d) * element, (q + o + 4 * d) * element + 4 * q + converted)};
}

/// The same for the adapters of the block with the largest adapters. Saved: x A^T, and with DoRA the directions.
/// Temporary: the gradient of x A^T of the largest product, its input after dropout, and with DoRA copies of its
/// outputs.
BlockBytes adapter_block_bytes(const ModelConfig& config, const Adapter& adapter, int64_t element) {
  BlockBytes most{};
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    int64_t saved = 0;
    PerProduct<int64_t> working{};
    for (const LoraTarget& target : adapter.targets) {
      if (target.layer != layer) continue;
      const std::vector<int64_t> shape = target_shape(config, target.kind);
      const int64_t outputs = adapter.has_magnitudes ? shape[0] : 0;
      saved += target.rank + outputs;
      int64_t& product_bytes = working[product_of(target.kind)];
      if (product_bytes == 0 && adapter.dropout > 0) product_bytes += shape[1];
      product_bytes += target.rank + 2 * outputs;
    }
    most.saved = std::max(most.saved, saved * element);
    most.working = std::max(most.working, *std::max_element(working.begin(), working.end()) * element);
  }
  return most;
}

/// Adds the bytes per rank of one trained unit.
void add_shard(const PlanInput& input, const ShardLayout& unit, MemoryPlan& plan) {
  const int64_t shard_bytes = unit.shard_elements() * 4;
  plan.parameter_bytes += shard_bytes;
  plan.moment_bytes +=
      moment_bytes(unit.shard_elements(), input.has_8bit_moments && has_8bit_moments(unit.unit().num_elements));
  plan.gradient_bytes += shard_bytes * max_open_subtrees(input.num_ranks, input.accumulation_steps, input.reduction);
}

int num_nodes(const PlanInput& input) { return (input.num_ranks + input.ranks_per_node - 1) / input.ranks_per_node; }

/// Adds the bytes and traffic of ShardedModel: all parameters are trained.
void plan_whole_model(const PlanInput& input, const std::vector<ShardLayout>& units, MemoryPlan& plan) {
  const BufferPlan buffers = plan_buffers(units, input.config.shares_head(), input.element_bytes,
                                          in_place(input.num_ranks, input.accumulation_steps, input.reduction));
  int64_t largest_shard = 0;
  for (const ShardLayout& unit : units) {
    add_shard(input, unit, plan);
    largest_shard = std::max(largest_shard, unit.shard_elements());
  }
  plan.num_trained_parameters = plan.num_parameters;
  plan.gradient_buffer_bytes = buffers.gradient_bytes;
  plan.gather_buffer_bytes = buffers.gather_buffer_bytes;
  plan.exchange_bytes = 2 * (num_nodes(input) - 1) * largest_shard * 4;
  plan.gathers_per_step = std::ssize(buffers.gathers) * input.accumulation_steps;
  plan.reduces_per_step = std::ssize(buffers.reduces) * input.accumulation_steps;
  for (const UnitOperation& gather : buffers.gathers)
    plan.gather_bytes_per_step += gather.buffer.bytes * input.accumulation_steps;
  for (const UnitOperation& reduce : buffers.reduces)
    plan.reduce_bytes_per_step += reduce.buffer.bytes * input.accumulation_steps;
}

std::optional<Nf4Format> all_plain(const Parameter&) { return std::nullopt; }

/// Adds the bytes and traffic of AdaptedModel: an adapter is trained beside a frozen base.
void plan_adapted_model(const PlanInput& input, MemoryPlan& plan) {
  const ShardLayout unit(adapter_layout(input.config, *input.adapter), input.num_ranks);
  add_shard(input, unit, plan);
  plan.num_trained_parameters = num_parameters({unit.unit()});
  for (const Parameter& p : unit.unit().parameters)
    if (p.part != AdapterPart::kWhole) plan.num_parameters += p.num_elements();
  const std::vector<FrozenUnit> frozen =
      frozen_units(input.config, *input.adapter, input.element_bytes, input.nf4_format ? input.nf4_format : all_plain);
  const FrozenBaseBytes base =
      frozen_base_bytes(input.config, frozen, input.num_ranks, num_nodes(input) == 1, input.element_bytes,
                        lowest_trained_layer(input.config, *input.adapter));
  plan.base_bytes = base.resident;
  plan.base_shard_bytes = base.shards;
  plan.scratch_bytes = base.scratch;
  const int64_t adapter_bytes = unit.padded_elements() * input.element_bytes;
  plan.gather_buffer_bytes = adapter_bytes + base.gather_buffers;
  plan.gradient_buffer_bytes = unit.padded_elements() * 4;
  plan.exchange_bytes = 2 * (num_nodes(input) - 1) * unit.shard_elements() * 4;
  plan.gathers_per_step = (1 + base.num_gathers) * input.accumulation_steps;
  plan.gather_bytes_per_step = (adapter_bytes + base.gathered) * input.accumulation_steps;
  plan.reduces_per_step = input.accumulation_steps;
  plan.reduce_bytes_per_step = plan.gradient_buffer_bytes * input.accumulation_steps;
}

int64_t activation_bytes(const PlanInput& input) {
  int64_t layers = input.config.num_layers;  // blocks with a backward pass
  BlockBytes block = block_bytes(input.config, input.element_bytes);
  if (input.adapter) {
    layers -= lowest_trained_layer(input.config, *input.adapter);
    const BlockBytes more = adapter_block_bytes(input.config, *input.adapter, input.element_bytes);
    block.saved += more.saved;
    block.working += more.working;
  }
  const int64_t row_bytes = input.config.hidden_size * input.element_bytes;
  return input.micro_batch_tokens *
         (block.working + (input.has_gradient_checkpointing ? block.saved + layers * row_bytes
                                                            : std::max<int64_t>(1, layers) * block.saved));
}

}  // namespace

MemoryPlan plan_memory(const PlanInput& input) {
  const std::vector<ShardLayout> units = shard_layouts(input.config, input.num_ranks);
  std::vector<UnitLayout> layouts;
  for (const ShardLayout& unit : units) layouts.push_back(unit.unit());
  MemoryPlan plan;
  plan.num_parameters = num_parameters(layouts);
  plan.program_bytes = input.program_bytes;
  if (input.adapter)
    plan_adapted_model(input, plan);
  else
    plan_whole_model(input, units, plan);
  plan.activation_bytes = activation_bytes(input);
  const int64_t tokens = input.micro_batch_tokens;
  plan.head_bytes = input.config.head == HeadKind::kScore
                        ? 2 * tokens * input.config.hidden_size * input.element_bytes  // hidden and its gradient
                        : token_loss_bytes(input.config, tokens, input.element_bytes, input.num_threads);
  if (input.has_async_save) plan.save_bytes = plan.parameter_bytes + plan.moment_bytes;
  return plan;
}

int64_t MemoryPlan::rank_bytes() const {
  return program_bytes + parameter_bytes + base_shard_bytes + scratch_bytes + moment_bytes + save_bytes +
         gradient_bytes + gradient_buffer_bytes + activation_bytes + head_bytes + exchange_bytes;
}

int64_t MemoryPlan::shared_bytes(int ranks_per_node) const {
  return ranks_per_node == 1 ? 0 : node_bytes() + ranks_per_node * (gradient_buffer_bytes + kMpiSegmentBytes);
}

int64_t MemoryPlan::total_bytes(int num_ranks, int ranks_per_node) const {
  const int nodes = (num_ranks + ranks_per_node - 1) / ranks_per_node;
  return num_ranks * rank_bytes() + nodes * node_bytes();
}

std::string render_plan(const PlanInput& input, const MemoryPlan& plan) {
  std::string text =
      fmt::format("plan: {:.2f} M parameters{} on {} rank{}, {} per node, micro-batches of at most {} tokens\n",
                  static_cast<double>(plan.num_parameters) / 1e6,
                  input.adapter ? fmt::format(", of which an adapter of {:.2f} M is trained,",
                                              static_cast<double>(plan.num_trained_parameters) / 1e6)
                                : "",
                  input.num_ranks, input.num_ranks == 1 ? "" : "s", input.ranks_per_node, input.micro_batch_tokens);
  const auto line = [&](const char* name, int64_t bytes) {
    text += fmt::format("  {:<34} {:>10}\n", name, render_bytes(bytes));
  };
  line("program, per rank", plan.program_bytes);
  line(input.adapter ? "adapter" : "parameters", plan.parameter_bytes);
  if (plan.base_shard_bytes > 0) line("its share of the frozen base", plan.base_shard_bytes);
  if (plan.scratch_bytes > 0) line("one matrix out of NF4", plan.scratch_bytes);
  line("moments", plan.moment_bytes);
  if (plan.save_bytes > 0) line("copy that --async_save writes", plan.save_bytes);
  line("gradients", plan.gradient_bytes);
  line("gradient buffers", plan.gradient_buffer_bytes);
  line("activations", plan.activation_bytes);
  line("logits", plan.head_bytes);
  if (plan.exchange_bytes > 0) line("sums between nodes", plan.exchange_bytes);
  line("sum per rank", plan.rank_bytes());
  line("gather buffers, per node", plan.gather_buffer_bytes);
  if (plan.base_bytes > 0) line("frozen base, per node", plan.base_bytes);
  if (input.ranks_per_node > 1) line("of it in /dev/shm, per node", plan.shared_bytes(input.ranks_per_node));
  line("all ranks and nodes", plan.total_bytes(input.num_ranks, input.ranks_per_node));
  text += fmt::format("  per step: {} gathers ({}), {} reduce-scatters ({})", plan.gathers_per_step,
                      render_bytes(plan.gather_bytes_per_step), plan.reduces_per_step,
                      render_bytes(plan.reduce_bytes_per_step));
  return text;
}

void check_fits(const PlanInput& input, const MemoryPlan& plan, int64_t available_bytes) {
  const int64_t node_bytes = input.ranks_per_node * (plan.rank_bytes() - plan.program_bytes) +
                             plan.node_bytes();  // the program is already loaded
  if (available_bytes > 0 && node_bytes > available_bytes)
    throw_error<UsageError>(
        "the plan needs {} more on this node, which has {} left; use more nodes, "
        "--gradient_checkpointing true, --dtype bfloat16, a smaller --max_length or "
        "--per_device_train_batch_size",
        render_bytes(node_bytes), render_bytes(available_bytes));
}

}  // namespace plumb
