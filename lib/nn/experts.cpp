#include "lib/nn/experts.hpp"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros_like.h>

#include "lib/base/random.hpp"
#include "lib/nn/matmul.hpp"

namespace plumb {

namespace {

enum class Adapted { kRouter, kSharedRouter, kSharedGateUp, kSharedDown };

/// The dropout of one product: every product has a mask of its own. Those of single experts have none, as in PEFT.
Dropout dropout_of(const ExpertInput& input, Adapted product) {
  Dropout dropout = input.dropout;
  dropout.stream = random_bits(dropout.seed, dropout.stream, static_cast<uint64_t>(product));
  return dropout;
}

struct MlpDropout {
  Dropout gate_up, down;
};
MlpDropout shared_dropout(const ExpertInput& input) {
  return {dropout_of(input, Adapted::kSharedGateUp), dropout_of(input, Adapted::kSharedDown)};
}

/// Rows of a product. oneDNN compiles and caches code for every number of bfloat16 rows, so there are few: multiples of
/// an eighth of the next power of two.
int64_t padded_rows(int64_t rows, const at::Tensor& x) {
  if (x.scalar_type() == at::kFloat) return rows;
  int64_t multiple = 16;
  while (rows > 8 * multiple) multiple *= 2;
  return (rows + multiple - 1) / multiple * multiple;
}

at::Tensor activate(const ExpertConfig& config, const at::Tensor& gate_up) {
  return config.clamp ? expert_ops_of(gate_up).clamped_swiglu(gate_up, *config.clamp)
                      : ops_of(gate_up).feed_forward(FeedForward::kSwiGlu, gate_up);
}

/// Replaces gate_up by its gradient and returns the recomputed activation.
at::Tensor activate_backward(const ExpertConfig& config, const at::Tensor& dy, const at::Tensor& gate_up) {
  return config.clamp ? expert_ops_of(dy).clamped_swiglu_backward(dy, gate_up, *config.clamp)
                      : ops_of(dy).feed_forward_backward(FeedForward::kSwiGlu, dy, gate_up);
}

/// Columns that alternate between gate and up, as gate before up; and back.
at::Tensor as_halves(const at::Tensor& gate_up) {
  return gate_up.view({gate_up.size(0), gate_up.size(1) / 2, 2}).transpose(1, 2).reshape(gate_up.sizes());
}
at::Tensor as_alternating(const at::Tensor& gate_up) {
  return gate_up.view({gate_up.size(0), 2, gate_up.size(1) / 2}).transpose(1, 2).reshape(gate_up.sizes());
}

/// gradient = dy^T x, or += if `adds`; nothing if the gradient is undefined.
void write_matrix_gradient(at::Tensor gradient, const at::Tensor& dy, const at::Tensor& x, bool adds) {
  if (!gradient.defined()) return;
  if (gradient.stride(1) != 1) return write_matrix_gradient(gradient.t(), x, dy, adds);
  // plumb's own product on CPUs needs contiguous rows, and pays for the copy
  const at::Tensor dy_t = dy.is_cpu() && dy.scalar_type() == at::kFloat ? dy.t().contiguous() : dy.t();
  if (adds) {
    matmul_accumulate(gradient, dy_t, x);
  } else {
    matmul_into(gradient, dy_t, x);
  }
}

void write_bias_gradient(const at::Tensor& gradient, const at::Tensor& dy, bool adds) {
  if (!gradient.defined()) return;
  const at::Tensor sum = dy.sum(0, false, at::kFloat);
  if (adds) {
    gradient.add_(sum);
  } else {
    gradient.copy_(sum);
  }
}

/// The gradients of a product from its second half of the backward pass, which needs x.
void write_gradients(const LinearInputGradient& backward, const at::Tensor& dy, const at::Tensor& x,
                     const Dropout& dropout, const LinearGradients& gradients, bool adds) {
  write_matrix_gradient(gradients.weight_OI, dy, x, adds);
  write_bias_gradient(gradients.bias_O, dy, adds);
  if (!gradients.lora.modules.empty()) linear_backward_a(backward, x, dropout, gradients.lora);
}

/// The gradients of a product without rows.
void write_zeros(const LinearGradients& gradients, bool adds) {
  const LoraGroup& lora = gradients.lora;
  if (!adds)
    for (const at::Tensor& gradient : {gradients.weight_OI, gradients.bias_O})
      if (gradient.defined()) gradient.zero_();
  if (lora.a_RI.defined()) lora.a_RI.zero_();
  for (const LoraGroup::Module& module : lora.modules)
    for (const at::Tensor& gradient : {module.b, module.magnitude})
      if (gradient.defined()) gradient.zero_();
}

/// Fills saved.gate_up_RG, and saved.out_RD if it is needed.
void mlp_forward(const ExpertConfig& config, const Expert& expert, const at::Tensor& x, const MlpDropout& dropout,
                 bool needs_output, ExpertActivations::Mlp& saved) {
  saved.gate_up_RG = linear_forward(expert.gate_up, x, {}, dropout.gate_up, saved.gate_up);
  if (config.is_interleaved) saved.gate_up_RG = as_halves(saved.gate_up_RG);
  if (needs_output) {
    saved.out_RD = linear_forward(expert.down, activate(config, saved.gate_up_RG), {}, dropout.down, saved.down);
  } else if (!expert.down.lora.modules.empty()) {
    linear_recompute(expert.down, activate(config, saved.gate_up_RG), dropout.down, saved.down);
  }
}

struct MlpBackward {
  at::Tensor dots_R;  // dy . y, float32
  at::Tensor dx_RD;   // undefined if not needed
};

MlpBackward mlp_backward(const ExpertConfig& config, const Expert& expert, const at::Tensor& x, const at::Tensor& dy,
                         const MlpDropout& dropout, ExpertActivations::Mlp& saved, const ExpertGradient& gradient,
                         bool adds, bool needs_input) {
  const ExpertOps& ops = expert_ops_of(x);
  LinearInputGradient down =
      linear_backward_input(expert.down, dy, saved.down, dropout.down, true, &gradient.down.lora);
  at::Tensor dgate_up = saved.gate_up_RG;
  at::Tensor hidden = activate_backward(config, down.dx_TI, dgate_up);
  if (config.is_interleaved) dgate_up = as_alternating(dgate_up);
  // dy . (W h + b) is W^T dy . h + dy . b, so that y need not be kept
  MlpBackward result = {ops.row_dots(down.dx_TI, hidden), {}};
  if (expert.down.bias_O.defined()) result.dots_R.add_(ops.row_dots(dy, expert.down.bias_O));
  down.dx_TI.reset();
  write_gradients(down, dy, hidden, dropout.down, gradient.down, adds);
  hidden.reset();
  const LinearInputGradient gate_up = linear_backward_input(expert.gate_up, dgate_up, saved.gate_up, dropout.gate_up,
                                                            needs_input, &gradient.gate_up.lora);
  write_gradients(gate_up, dgate_up, x, dropout.gate_up, gradient.gate_up, adds);
  result.dx_RD = gate_up.dx_TI;
  saved = {};
  return result;
}

/// The terms of the sum of the input's gradient that come from the shared expert.
std::vector<at::Tensor> shared_backward(const ExpertConfig& config, const SharedExpert& shared,
                                        const ExpertInput& input, ExpertActivations& saved, const at::Tensor& dout,
                                        const ExpertGradients& gradients) {
  const at::Tensor& weight = saved.shared_weight_T;
  const at::Tensor dy = expert_ops_of(dout).scale_rows(dout, weight);
  const MlpBackward mlp = mlp_backward(config, shared.expert, input.x_TD, dy, shared_dropout(input), saved.shared,
                                       gradients.shared, gradients.adds, gradients.needs_input);
  // the derivative of w = sigmoid(z) is w (1 - w), and the dot products are w times those of dout
  const at::Tensor dlogits = (mlp.dots_R * (1 - weight)).to(dout.scalar_type()).unsqueeze(1);
  const Dropout dropout = dropout_of(input, Adapted::kSharedRouter);
  const LinearInputGradient router = linear_backward_input(shared.router, dlogits, saved.shared_router, dropout,
                                                           gradients.needs_input, &gradients.shared_router.lora);
  write_gradients(router, dlogits, input.x_TD, dropout, gradients.shared_router, gradients.adds);
  if (!gradients.needs_input) return {};
  return {mlp.dx_RD, router.dx_TI};
}

Linear matrix(const at::Tensor& weights, const at::Tensor& biases, int64_t expert) {
  return {weights.defined() ? weights.select(0, expert) : at::Tensor(),
          biases.defined() ? biases.select(0, expert) : at::Tensor(),
          {},
          {}};
}

LinearGradients matrix_gradient(const at::Tensor& weights, const at::Tensor& biases, int64_t expert) {
  return {weights.defined() ? weights.select(0, expert) : at::Tensor(),
          biases.defined() ? biases.select(0, expert) : at::Tensor(),
          {}};
}

}  // namespace

ExpertParameters::ExpertParameters(const ExpertTensors& t) : router{t.router_ED, t.router_bias_E, {}, {}} {
  for (int64_t e = 0; e < t.router_ED.size(0); ++e)
    experts.push_back({matrix(t.gate_up_EGD, t.gate_up_bias_EG, e), matrix(t.down_EDF, t.down_bias_ED, e)});
  if (t.shared_router_1D.defined())
    shared = {{t.shared_router_1D, {}, {}, {}}, {{t.shared_gate_up_UD, {}, {}, {}}, {t.shared_down_DS, {}, {}, {}}}};
}

ExpertGradients::ExpertGradients(const ExpertTensors& t, bool adds_to_them)
    : router{t.router_ED, t.router_bias_E, {}},
      shared_router{t.shared_router_1D, {}, {}},
      shared{{t.shared_gate_up_UD, {}, {}}, {t.shared_down_DS, {}, {}}},
      adds(adds_to_them) {
  for (int64_t e = 0; e < t.router_ED.size(0); ++e)
    experts.push_back(
        {matrix_gradient(t.gate_up_EGD, t.gate_up_bias_EG, e), matrix_gradient(t.down_EDF, t.down_bias_ED, e)});
}

std::vector<ExpertLora> expert_lora(const ModelConfig& config, const Adapter& adapter, const UnitLayout& unit,
                                    int64_t layer, const at::Tensor& flat) {
  std::vector<ExpertLora> loras;
  const int64_t num_experts = config.mixture.num_experts;
  for (const LoraTarget& target : adapter.targets) {
    if (target.layer != layer || !is_of_experts(target)) continue;
    loras.resize(num_experts);
    const int64_t rank = target.rank / num_experts, outputs = target_shape(config, target.kind)[0];
    at::Tensor a_EI, b_OE;
    for (const Parameter& p : unit.parameters) {
      if (p.kind != target.kind || p.layer != layer) continue;
      (p.part == AdapterPart::kLoraA ? a_EI : b_OE) = flat.narrow(0, p.offset, p.num_elements()).view(p.shape);
    }
    for (int64_t e = 0; e < num_experts; ++e) {
      const bool is_down = target.kind == ParameterKind::kExpertsDown;
      LoraGroup& group = is_down ? loras[e].down : loras[e].gate_up;
      group.a_RI = a_EI.narrow(0, e * rank, rank);
      group.modules = {
          {0, outputs, 0, rank, target.scaling, b_OE.view({outputs, rank, num_experts}).select(2, e), {}, {}}};
    }
  }
  return loras;
}

void route_tokens(const ExpertConfig& config, const Linear& router, const ExpertInput& input,
                  ExpertActivations& saved) {
  saved.logits_TE = linear_forward(router, input.x_TD, {}, dropout_of(input, Adapted::kRouter), saved.router);
  saved.routing = expert_ops_of(input.x_TD).route(saved.logits_TE, config.router, input.num_tokens);
  saved.experts.assign(config.router.num_experts, {});
}

void expert_forward(const ExpertConfig& config, const Expert& expert, int64_t index, const ExpertInput& input,
                    ExpertActivations& saved, bool needs_output) {
  const int64_t rows = saved.routing.num_rows(index);
  if (rows == 0) return;
  const at::Tensor x =
      expert_ops_of(input.x_TD).gather(saved.routing, index, input.x_TD, padded_rows(rows, input.x_TD), false);
  mlp_forward(config, expert, x, {}, needs_output, saved.experts[index]);
}

void shared_expert_forward(const ExpertConfig& config, const SharedExpert& shared, const ExpertInput& input,
                           ExpertActivations& saved, bool needs_output) {
  const at::Tensor logits =
      linear_forward(shared.router, input.x_TD, {}, dropout_of(input, Adapted::kSharedRouter), saved.shared_router);
  saved.shared_weight_T = at::sigmoid(logits.flatten().to(at::kFloat));
  mlp_forward(config, shared.expert, input.x_TD, shared_dropout(input), needs_output, saved.shared);
}

at::Tensor combine_experts(const ExpertInput& input, const at::Tensor& residual_TD, ExpertActivations& saved) {
  std::vector<at::Tensor> outputs;
  for (ExpertActivations::Mlp& expert : saved.experts) outputs.push_back(std::move(expert.out_RD));
  std::vector<WeightedRows> more;
  if (residual_TD.defined()) more.push_back({residual_TD});
  if (saved.shared.out_RD.defined()) more.push_back({std::move(saved.shared.out_RD), saved.shared_weight_T});
  at::Tensor y = at::empty_like(input.x_TD);
  expert_ops_of(y).combine(saved.routing, outputs, true, more, y);
  return y;
}

void expert_backward(const ExpertConfig& config, const Expert& expert, int64_t index, const ExpertInput& input,
                     ExpertActivations& saved, const at::Tensor& dout_TD, const ExpertGradient& gradient, bool adds,
                     bool needs_input) {
  const Routing& routing = saved.routing;
  if (!saved.weighted_NC.defined()) saved.weighted_NC = at::zeros_like(routing.weight_NC);
  const int64_t rows = routing.num_rows(index);
  if (rows == 0) {
    write_zeros(gradient.gate_up, adds);
    write_zeros(gradient.down, adds);
    return;
  }
  ExpertActivations::Mlp& mlp = saved.experts[index];
  const ExpertOps& ops = expert_ops_of(dout_TD);
  const int64_t padded = padded_rows(rows, dout_TD);
  const at::Tensor x = ops.gather(routing, index, input.x_TD, padded, false);
  const at::Tensor dy = ops.gather(routing, index, dout_TD, padded, true);
  const MlpBackward backward = mlp_backward(config, expert, x, dy, {}, mlp, gradient, adds, needs_input);
  mlp.dx_RD = backward.dx_RD;
  const int64_t chosen = routing.weight_NC.size(1), begin = routing.begin_E[index];
  std::vector<int64_t> places;
  for (int64_t i = begin; i < begin + rows; ++i) places.push_back(routing.token_A[i] * chosen + routing.slot_A[i]);
  ops_of(dout_TD).put_rows(backward.dots_R.unsqueeze(1), places, saved.weighted_NC.view({-1, 1}));
}

at::Tensor router_backward(const ExpertConfig& config, const Linear& router, const std::optional<SharedExpert>& shared,
                           const ExpertInput& input, ExpertActivations& saved, const at::Tensor& dout_TD,
                           const ExpertGradients& gradients, std::span<const double> dprobability_E) {
  const ExpertOps& ops = expert_ops_of(dout_TD);
  const at::Tensor dlogits =
      ops.route_backward(saved.routing, config.router, saved.weighted_NC, dprobability_E, saved.logits_TE);
  const Dropout dropout = dropout_of(input, Adapted::kRouter);
  const LinearInputGradient backward =
      linear_backward_input(router, dlogits, saved.router, dropout, gradients.needs_input, &gradients.router.lora);
  write_gradients(backward, dlogits, input.x_TD, dropout, gradients.router, gradients.adds);
  std::vector<WeightedRows> more = {{backward.dx_TI}};
  if (shared)
    for (const at::Tensor& dx : shared_backward(config, *shared, input, saved, dout_TD, gradients))
      more.push_back({dx});
  at::Tensor dinput;
  if (gradients.needs_input) {
    std::vector<at::Tensor> of_experts;
    for (ExpertActivations::Mlp& expert : saved.experts) of_experts.push_back(std::move(expert.dx_RD));
    dinput = at::empty_like(input.x_TD);
    ops.combine(saved.routing, of_experts, false, more, dinput);
  }
  saved = {};
  return dinput;
}

at::Tensor experts_forward(const ExpertConfig& config, const ExpertParameters& parameters, const ExpertInput& input,
                           const at::Tensor& residual_TD, ExpertActivations& saved) {
  route_tokens(config, parameters.router, input, saved);
  for (int64_t e = 0; e < std::ssize(parameters.experts); ++e)
    expert_forward(config, parameters.experts[e], e, input, saved);
  if (parameters.shared) shared_expert_forward(config, *parameters.shared, input, saved);
  return combine_experts(input, residual_TD, saved);
}

void experts_recompute(const ExpertConfig& config, const ExpertParameters& parameters, const ExpertInput& input,
                       ExpertActivations& saved) {
  route_tokens(config, parameters.router, input, saved);
  for (int64_t e = 0; e < std::ssize(parameters.experts); ++e)
    expert_forward(config, parameters.experts[e], e, input, saved, false);
  if (parameters.shared) shared_expert_forward(config, *parameters.shared, input, saved, false);
}

at::Tensor experts_backward(const ExpertConfig& config, const ExpertParameters& parameters, const ExpertInput& input,
                            ExpertActivations& saved, const at::Tensor& dout_TD, const ExpertGradients& gradients,
                            std::span<const double> dprobability_E) {
  for (int64_t e = 0; e < std::ssize(parameters.experts); ++e)
    expert_backward(config, parameters.experts[e], e, input, saved, dout_TD, gradients.experts[e], gradients.adds,
                    gradients.needs_input);
  return router_backward(config, parameters.router, parameters.shared, input, saved, dout_TD, gradients,
                         dprobability_E);
}

at::Tensor experts_output(const ExpertConfig& config, const ExpertParameters& parameters, const at::Tensor& x_TD,
                          const at::Tensor& residual_TD, const MultiplyLinear& multiply) {
  const ExpertOps& ops = expert_ops_of(x_TD);
  const auto output_of = [&](const Expert& expert, const at::Tensor& x) {
    const at::Tensor gate_up = multiply(x, expert.gate_up);
    return multiply(activate(config, config.is_interleaved ? as_halves(gate_up) : gate_up), expert.down);
  };
  const Routing routing = ops.route(multiply(x_TD, parameters.router), config.router, x_TD.size(0));
  std::vector<at::Tensor> outputs(parameters.experts.size());
  for (int64_t e = 0; e < std::ssize(outputs); ++e)
    if (const int64_t rows = routing.num_rows(e); rows > 0)
      outputs[e] = output_of(parameters.experts[e], ops.gather(routing, e, x_TD, rows, false));
  std::vector<WeightedRows> more = {{residual_TD}};
  if (const auto& shared = parameters.shared)
    more.push_back(
        {output_of(shared->expert, x_TD), at::sigmoid(multiply(x_TD, shared->router).flatten().to(at::kFloat))});
  at::Tensor y = at::empty_like(x_TD);
  ops.combine(routing, outputs, true, more, y);
  return y;
}

}  // namespace plumb
