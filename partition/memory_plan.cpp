#include "partition/memory_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"
#include "lib/nn/decode.hpp"
#include "lib/nn/matmul.hpp"
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

/// The same of a layer's experts in place of a feed-forward network. Working memory is that of all experts' outputs or
/// input gradients, and of the rows of one expert, which has at most twice an equal share in a model that is trained.
BlockBytes expert_bytes(const MixtureConfig& mixture, int64_t d, int64_t element) {
  const int64_t c = mixture.num_chosen, size = mixture.expert_size;
  const double share = std::min(1.0, 2.0 * static_cast<double>(c) / static_cast<double>(mixture.num_experts));
  const auto of_one = static_cast<int64_t>(share * static_cast<double>(2 * d + 4 * size));
  const int64_t routing = mixture.num_experts * (element + 4) + c * 20;
  return {(2 * c * size + 2 * mixture.shared_expert_size) * element + routing,
          (c * d + of_one + 3 * mixture.shared_expert_size + 4 * d) * element};
}

BlockBytes block_bytes(const ModelConfig& config, int64_t layer, int64_t element) {
  const int64_t d = config.hidden_size, f = config.intermediate_size;
  const int64_t o = config.num_heads * config.head_dim, q = o + 2 * config.num_kv_heads * config.head_dim;
  // attention that computes in float32: its saved output, and in the backward pass its converted inputs and outputs
  const int64_t computed = has_pair_products() ? element : 4;
  const bool has_outer_norms =
      config.norm_placement == NormPlacement::kAfter || config.norm_placement == NormPlacement::kAround;
  const int64_t gate_up = config.has_gate() ? 2 * f : f;
  const BlockBytes feed_forward = config.is_mixture(layer) ? expert_bytes(config.mixture, d, element)
                                                           : BlockBytes{gate_up * element, (2 * f + 3 * d) * element};
  const int64_t saved =
      (2 * d + q + o + (config.qk_norm != QkNorm::kNone ? q : 0) + (has_outer_norms ? 2 * d : 0)) * element +
      computed * o + 4 * config.num_heads + 8 + feed_forward.saved;
  const int64_t converted = element == computed ? 0 : computed * (q + o);
  // feed-forward: dhidden and hidden; attention: dqkv, a float32 copy of it, dout and dattended
  return {saved, std::max(feed_forward.working, (q + o + 4 * d) * element + 4 * q + converted)};
}

/// The same for the adapters of a block. Saved: x A^T, and with DoRA the directions.
/// Temporary: the gradient of x A^T of the largest product, its input after dropout, and with DoRA copies of its
/// outputs.
BlockBytes adapter_block_bytes(const ModelConfig& config, const Adapter& adapter, int64_t layer, int64_t element) {
  int64_t saved = 0;
  PerProduct<int64_t> working{};
  for (const LoraTarget& target : adapter.targets) {
    if (target.layer != layer) continue;
    const std::vector<int64_t> shape = target_shape(config, target.kind);
    const int64_t outputs = adapter.has_magnitudes ? shape[0] : 0;
    // a token uses the ranks of the experts that it chose
    const int64_t rank =
        is_of_experts(target) ? target.rank / config.mixture.num_experts * config.mixture.num_chosen : target.rank;
    saved += rank + outputs;
    int64_t& product_bytes = working[product_of(target.kind)];
    if (product_bytes == 0 && adapter.dropout > 0) product_bytes += shape[1];
    product_bytes += rank + 2 * outputs;
  }
  return {saved * element, *std::max_element(working.begin(), working.end()) * element};
}

bool adapts_experts(const Adapter& adapter) {
  return std::any_of(adapter.targets.begin(), adapter.targets.end(), is_of_experts);
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

/// Adds the bytes of making completions and of comparing them with a reference.
void plan_rollouts(const PlanInput& input, const std::vector<ShardLayout>& units, MemoryPlan& plan) {
  const PlannedRollouts& rollouts = *input.rollouts;
  const ModelConfig& config = input.config;
  int64_t num_elements = 0, shard_elements = 0;
  for (const ShardLayout& unit : units) {
    num_elements += unit.padded_elements();
    shard_elements += unit.shard_elements();
  }
  if (rollouts.decoded_rows > 0 && !input.adapter) plan.decoder_bytes = num_elements * input.element_bytes;
  if (rollouts.decoded_rows > 0 && input.adapter) {  // reads the base where it is, or a copy where that is sharded
    const ShardLayout adapter(adapter_layout(config, *input.adapter), input.num_ranks);
    plan.decoder_bytes = adapter.padded_elements() * input.element_bytes + plan.base_shard_bytes * input.num_ranks;
  }
  const int64_t text_bytes = text_cache_bytes(config, rollouts.row_tokens, input.element_bytes);
  plan.cache_bytes = std::min(rollouts.decoded_rows, texts_at_once(text_bytes)) * text_bytes;
  plan.reward_model_bytes = rollouts.reward_model_bytes;
  if (!rollouts.has_reference) return;
  if (input.adapter && !rollouts.has_frozen_reference) return;
  if (input.adapter) {
    plan.reference_bytes = plan.base_bytes > 0 ? plan.base_bytes : plan.base_shard_bytes * input.ranks_per_node;
  } else {
    plan.reference_shard_bytes = shard_elements * 4;
    plan.reference_bytes = plan.gather_buffer_bytes;
  }
}

int64_t activation_bytes(const PlanInput& input) {
  const ModelConfig& config = input.config;
  // of blocks with a backward pass; a pass forward alone needs as much as one block
  const int64_t lowest =
      std::min(input.adapter ? lowest_trained_layer(config, *input.adapter) : 0, config.num_layers - 1);
  const bool has_backward = !input.adapter || lowest_trained_layer(config, *input.adapter) < config.num_layers;
  int64_t all_saved = 0;
  BlockBytes most{};
  for (int64_t layer = lowest; layer < config.num_layers; ++layer) {
    BlockBytes block = block_bytes(config, layer, input.element_bytes);
    if (input.adapter) {
      const BlockBytes more = adapter_block_bytes(config, *input.adapter, layer, input.element_bytes);
      block = {block.saved + more.saved, block.working + more.working};
    }
    all_saved += block.saved;
    most = {std::max(most.saved, block.saved), std::max(most.working, block.working)};
  }
  const int64_t row_bytes = has_backward ? (config.num_layers - lowest) * config.hidden_size * input.element_bytes : 0;
  return input.micro_batch_tokens *
         (most.working + (input.has_gradient_checkpointing ? most.saved + row_bytes : all_saved));
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
  if (input.rollouts) plan_rollouts(input, units, plan);
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
         gradient_bytes + gradient_buffer_bytes + activation_bytes + head_bytes + exchange_bytes +
         reference_shard_bytes + cache_bytes;
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
  if (const MixtureConfig& mixture = input.config.mixture; mixture.num_experts > 0)
    text += fmt::format("  experts: {} a layer, {} a token, {}\n", mixture.num_experts, mixture.num_chosen,
                        !input.adapter                   ? "trained"
                        : adapts_experts(*input.adapter) ? "adapted"
                                                         : "frozen");
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
  if (plan.reference_shard_bytes > 0) line("reference model", plan.reference_shard_bytes);
  if (plan.cache_bytes > 0) line("keys and values of completions", plan.cache_bytes);
  line("sum per rank", plan.rank_bytes());
  line("gather buffers, per node", plan.gather_buffer_bytes);
  if (plan.base_bytes > 0) line("frozen base, per node", plan.base_bytes);
  if (plan.decoder_bytes > 0) line("weights to decode with, per node", plan.decoder_bytes);
  if (plan.reference_bytes > 0) line("reference model, per node", plan.reference_bytes);
  if (plan.reward_model_bytes > 0) line("reward models, per node", plan.reward_model_bytes);
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
