#include "partition/memory_plan.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "lib/objective/token_loss.hpp"
#include "partition/sharded_model.hpp"

namespace plumb {

namespace {

/// Bytes per token that block_forward() keeps (see BlockKept), and the most that block_backward() holds besides.
struct BlockBytes {
  int64_t kept;
  int64_t working;
};

BlockBytes block_bytes(const ModelConfig& config, int64_t element) {
  const int64_t d = config.hidden_size, f = config.intermediate_size;
  const int64_t o = config.num_heads * config.head_dim, q = o + 2 * config.num_kv_heads * config.head_dim;
  const int64_t kept = (2 * d + q + 2 * o + 2 * f + (config.has_qk_norm ? q : 0)) * element + 4 * config.num_heads + 8;
  // feed-forward: dhidden and hidden; attention: dqkv and the operator's own copies of it, dout and dattended
  return {kept, std::max(2 * f + 3 * d, 2 * q + o + 4 * d) * element};
}

}  // namespace

MemoryPlan plan_memory(const PlanInput& input) {
  const std::vector<ShardLayout> units = shard_layouts(input.config, input.num_ranks);
  const BufferPlan buffers = plan_buffers(units, input.config.shares_head(), input.element_bytes,
                                          in_place(input.num_ranks, input.accumulation_steps, input.reduction));
  MemoryPlan plan;
  int64_t shard_bytes = 0, largest_shard = 0;
  std::vector<UnitLayout> layouts;
  for (const ShardLayout& unit : units) {
    shard_bytes += unit.shard_elements() * 4;
    largest_shard = std::max(largest_shard, unit.shard_elements());
    layouts.push_back(unit.unit());
  }
  plan.num_parameters = num_parameters(layouts);
  plan.program_bytes = input.program_bytes;
  plan.parameter_bytes = shard_bytes;
  plan.moment_bytes = 2 * shard_bytes;
  plan.gradient_bytes = shard_bytes * max_open_subtrees(input.num_ranks, input.accumulation_steps, input.reduction);
  plan.gradient_buffer_bytes = buffers.gradient_bytes;
  plan.slot_bytes = buffers.slot_bytes;
  const int nodes = (input.num_ranks + input.ranks_per_node - 1) / input.ranks_per_node;
  plan.exchange_bytes = 2 * (nodes - 1) * largest_shard * 4;

  const int64_t tokens = input.micro_batch_tokens, layers = input.config.num_layers;
  const BlockBytes block = block_bytes(input.config, input.element_bytes);
  const int64_t row_bytes = input.config.hidden_size * input.element_bytes;
  plan.activation_bytes = tokens * (block.working + (input.has_gradient_checkpointing ? block.kept + layers * row_bytes
                                                                                      : layers * block.kept));
  plan.head_bytes =
      input.config.head == HeadKind::kScore
          ? 2 * tokens * row_bytes  // hidden and its gradient
          : token_loss_bytes(tokens, input.config.hidden_size, input.config.vocab_size, input.element_bytes);

  plan.gathers_per_step = std::ssize(buffers.gathers) * input.accumulation_steps;
  plan.reduces_per_step = std::ssize(buffers.reduces) * input.accumulation_steps;
  for (const UnitOperation& gather : buffers.gathers)
    plan.gather_bytes_per_step += gather.buffer.bytes * input.accumulation_steps;
  for (const UnitOperation& reduce : buffers.reduces)
    plan.reduce_bytes_per_step += reduce.buffer.bytes * input.accumulation_steps;
  return plan;
}

int64_t MemoryPlan::rank_bytes() const {
  return program_bytes + parameter_bytes + moment_bytes + gradient_bytes + gradient_buffer_bytes + activation_bytes +
         head_bytes + exchange_bytes;
}

int64_t MemoryPlan::total_bytes(int num_ranks, int ranks_per_node) const {
  const int nodes = (num_ranks + ranks_per_node - 1) / ranks_per_node;
  return num_ranks * rank_bytes() + nodes * slot_bytes;
}

std::string render_bytes(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= int64_t{10} << 30) return fmt::format("{:.0f} GiB", value / (1 << 30));
  if (bytes >= int64_t{1} << 30) return fmt::format("{:.2f} GiB", value / (1 << 30));
  if (bytes >= int64_t{10} << 20) return fmt::format("{:.0f} MiB", value / (1 << 20));
  return fmt::format("{:.2f} MiB", value / (1 << 20));
}

std::string render_plan(const PlanInput& input, const MemoryPlan& plan) {
  std::string text =
      fmt::format("plan: {:.2f} M parameters on {} rank{}, {} per node, micro-batches of at most {} tokens\n",
                  static_cast<double>(plan.num_parameters) / 1e6, input.num_ranks, input.num_ranks == 1 ? "" : "s",
                  input.ranks_per_node, input.micro_batch_tokens);
  const auto line = [&](const char* name, int64_t bytes) {
    text += fmt::format("  {:<34} {:>10}\n", name, render_bytes(bytes));
  };
  line("program, per rank", plan.program_bytes);
  line("parameters", plan.parameter_bytes);
  line("moments", plan.moment_bytes);
  line("gradients", plan.gradient_bytes);
  line("gradient buffers", plan.gradient_buffer_bytes);
  line("activations", plan.activation_bytes);
  line("logits", plan.head_bytes);
  if (plan.exchange_bytes > 0) line("sums between nodes", plan.exchange_bytes);
  line("sum per rank", plan.rank_bytes());
  line("slots, per node", plan.slot_bytes);
  line("all ranks and nodes", plan.total_bytes(input.num_ranks, input.ranks_per_node));
  text += fmt::format("  per step: {} gathers ({}), {} reduce-scatters ({})", plan.gathers_per_step,
                      render_bytes(plan.gather_bytes_per_step), plan.reduces_per_step,
                      render_bytes(plan.reduce_bytes_per_step));
  return text;
}

}  // namespace plumb
