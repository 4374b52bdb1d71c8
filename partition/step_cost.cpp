#include "partition/step_cost.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace {

/// Attention's rate as a share of that of float32 products of the smallest size: assumed, not measured.
constexpr double kAttentionShare = 0.5;
/// Backward passes of attention: five products of the forward pass's two.
constexpr double kAttentionBackward = 2.5;
/// Bytes of AdamW per parameter: reads parameter, gradient and two moments, writes all but the gradient.
constexpr double kUpdateBytes = 28;

/// Between two sizes by the logarithm; beyond them the nearest.
double rate_of(const std::vector<ProductRate>& rates, int64_t size) {
  const auto above = std::find_if(rates.begin(), rates.end(), [&](const auto& rate) { return rate.size >= size; });
  if (above == rates.end()) return rates.back().flops_per_second;
  if (above == rates.begin() || above->size == size) return above->flops_per_second;
  const ProductRate &low = above[-1], &high = *above;
  const double share = std::log(static_cast<double>(size) / static_cast<double>(low.size)) /
                       std::log(static_cast<double>(high.size) / static_cast<double>(low.size));
  return low.flops_per_second + share * (high.flops_per_second - low.flops_per_second);
}

/// Elements of the matrices of a unit that one token is multiplied with.
double matrix_elements(const UnitLayout& unit, const ModelConfig& config) {
  double elements = 0;
  for (const Parameter& p : unit.parameters) {
    if (is_expert_matrix(p.kind)) {
      elements += static_cast<double>(p.num_elements()) * static_cast<double>(config.mixture.num_chosen) /
                  static_cast<double>(config.mixture.num_experts);
    } else if (is_block_matrix(p.kind) || p.kind == ParameterKind::kRouter) {
      elements += static_cast<double>(p.num_elements());
    }
  }
  return elements;
}

/// Passes over a layer in units of its forward pass.
struct Passes {
  double products, attention, kernels;
};

Passes passes_of(const PlanInput& input, int64_t layer) {
  if (input.adapter && layer < lowest_trained_layer(input.config, *input.adapter)) return {1, 1, 1};
  const double again = input.has_gradient_checkpointing ? 1 : 0;
  return {input.adapter ? 2 + again : 3 + again, 1 + kAttentionBackward + again, 3 + again};
}

double adapter_elements(const PlanInput& input) {
  double elements = 0;
  if (!input.adapter) return 0;
  for (const Parameter& p : adapter_layout(input.config, *input.adapter).parameters)
    if (p.part == AdapterPart::kLoraA || p.part == AdapterPart::kLoraB)
      elements += static_cast<double>(p.num_elements());
  return elements;
}

/// Mean number of tokens that a token attends to.
double mean_context(int64_t text_tokens, int64_t window) {
  const auto tokens = static_cast<double>(text_tokens);
  if (window <= 0 || window >= text_tokens) return (tokens + 1) / 2;
  const auto w = static_cast<double>(window);
  return w - w * (w - 1) / (2 * tokens);
}

/// Operations and bytes of one token.
struct TokenWork {
  double product_flops = 0, attention_flops = 0, kernel_bytes = 0;
};

TokenWork work_of_token(const PlanInput& input, const std::vector<UnitLayout>& units, int64_t text_tokens) {
  const ModelConfig& c = input.config;
  const auto element = static_cast<double>(input.element_bytes);
  const auto d = static_cast<double>(c.hidden_size), o = static_cast<double>(c.num_heads * c.head_dim);
  const auto qkv = o + static_cast<double>(2 * c.num_kv_heads * c.head_dim);
  const double f =
      c.mixture.num_experts > 0
          ? static_cast<double>(c.mixture.num_chosen * c.mixture.expert_size + c.mixture.shared_expert_size)
          : static_cast<double>(c.intermediate_size);
  TokenWork work;
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    const auto unit = std::find_if(units.begin(), units.end(), [&](const UnitLayout& u) {
      return !u.parameters.empty() && u.parameters.front().layer == layer;
    });
    const Passes passes = passes_of(input, layer);
    work.product_flops += 2 * passes.products * matrix_elements(*unit, c);
    work.attention_flops += passes.attention * 4 * o * mean_context(text_tokens, c.sliding_window[layer]);
    // two norms with a residual each, heads rotated in place, the activation of gate and up
    work.kernel_bytes += passes.kernels * element * (8 * d + 2 * qkv + 3 * f);
  }
  const double backward = input.adapter ? 1 : 2;
  if (c.head == HeadKind::kLanguageModel) {
    const auto vocabulary = static_cast<double>(c.vocab_size);
    work.product_flops += 2 * (1 + backward) * d * vocabulary;
    work.kernel_bytes += 4 * element * vocabulary;  // logits: written, read for the sum, replaced by their gradients
  }
  const double again = input.has_gradient_checkpointing ? 1 : 0;
  work.product_flops += 2 * (3 + again) * adapter_elements(input);
  return work;
}

}  // namespace

StepCost cost_of_step(const PlanInput& input, const MemoryPlan& plan, int64_t text_tokens, const Machine& machine) {
  const bool has_network = input.num_ranks > input.ranks_per_node;
  if (has_network && machine.network_bytes_per_second <= 0)
    throw UsageError(
        "--machine: expected a file measured on several hosts for a plan of several, got one of a single host; start "
        "plumb doctor --measure on the hosts of the run");
  const auto ranks = static_cast<double>(input.num_ranks);
  const double tokens = static_cast<double>(input.micro_batch_tokens) * static_cast<double>(input.accumulation_steps);
  const TokenWork work = work_of_token(input, unit_layouts(input.config), text_tokens);
  const auto& rates = input.element_bytes == 2 ? machine.bfloat16 : machine.float32;
  StepCost cost;
  cost.num_tokens = static_cast<int64_t>(tokens) * input.num_ranks;
  cost.product_flops = tokens * work.product_flops;
  cost.products = cost.product_flops / rate_of(rates, input.config.hidden_size);
  cost.attention = tokens * work.attention_flops / (kAttentionShare * machine.float32.front().flops_per_second);
  cost.kernels = tokens * work.kernel_bytes / machine.memory_bytes_per_second;
  const auto gathered = static_cast<double>(plan.gather_bytes_per_step);
  const auto reduced = static_cast<double>(plan.reduce_bytes_per_step);
  // a rank writes its share of what is gathered, and reads its slice of every rank's gradients, which it wrote before
  cost.exchange = (2 * gathered / ranks + 2 * reduced) / machine.memory_bytes_per_second;
  if (has_network) {
    const double away = 1 - static_cast<double>(input.ranks_per_node) / ranks;
    cost.network_bytes = away * (gathered + reduced);
    cost.network = cost.network_bytes / machine.network_bytes_per_second +
                   static_cast<double>(plan.gathers_per_step + plan.reduces_per_step) * machine.network_latency_seconds;
  }
  cost.update =
      kUpdateBytes * static_cast<double>(plan.num_trained_parameters) / ranks / machine.memory_bytes_per_second;
  return cost;
}

std::string render_cost(const StepCost& cost, int64_t num_steps) {
  const double seconds = cost.seconds();
  std::string text = fmt::format("time: {:.3g} s per step, {:.0f} tokens/s on all ranks, if every micro-batch is full",
                                 seconds, static_cast<double>(cost.num_tokens) / seconds);
  if (num_steps > 0)
    text += fmt::format("\n  {} steps take {}", num_steps, render_duration(seconds * static_cast<double>(num_steps)));
  const auto line = [&](const char* name, double part) {
    if (part > 0) text += fmt::format("\n  {:<34} {:>8.3g} s {:>5.1f} %", name, part, 100 * part / seconds);
  };
  line("products", cost.products);
  line("attention", cost.attention);
  line("norms, activations, softmax", cost.kernels);
  line("gathers and sums on a host", cost.exchange);
  line("between hosts", cost.network);
  line("update", cost.update);
  if (cost.network_bytes > 0)
    text += fmt::format("\n  a host receives {} per step", render_bytes(static_cast<int64_t>(cost.network_bytes)));
  return text;
}

}  // namespace plumb
