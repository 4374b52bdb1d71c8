// The sparse MLP of a block: a router sends each token to a few of many experts, each a gated MLP of its own; a shared
// expert may serve all tokens. Forward and backward are pure functions like those of block.hpp, with activations in a
// value and gradients written where the caller wants them. Tokens are grouped by expert, with one product each, and
// summed in a fixed order, so that the bits depend neither on ranks nor on threads.
//
// The functions of a whole layer call those of single experts, which a caller whose experts are in several units calls
// itself: route_tokens, expert_forward for each expert, shared_expert_forward, combine_experts; and in the backward
// pass expert_backward for each, then router_backward. Experts may come in any order and one at a time. The reference
// is experts_reference.hpp. Source: transformers modeling_mixtral.py, modeling_qwen2_moe.py, modeling_qwen3_moe.py,
// modeling_gpt_oss.py.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "lib/nn/expert_ops.hpp"
#include "lib/nn/linear.hpp"

namespace plumb {

// T, N, E, C, D, F as in expert_ops.hpp; G = 2 F, gate first unless ExpertConfig::is_interleaved; S = intermediate size
// of the shared expert, U = 2 S.

struct ExpertConfig {
  RouterConfig router;
  std::optional<ClampedSwiglu> clamp = std::nullopt;  // gpt-oss; otherwise SwiGLU
  bool is_interleaved = false;                        // gate and up alternate in the rows of G (gpt-oss)
};

/// Views of the parameters of a layer or of their gradients. Tensors that a model family does not have, or whose
/// gradient is not wanted, are undefined.
struct ExpertTensors {
  at::Tensor router_ED, router_bias_E;
  at::Tensor gate_up_EGD, gate_up_bias_EG, down_EDF, down_bias_ED;
  at::Tensor shared_router_1D, shared_gate_up_UD, shared_down_DS;
};

struct Expert {
  Linear gate_up, down;
};
/// An expert of all tokens, whose output is multiplied by sigmoid(router x).
struct SharedExpert {
  Linear router;
  Expert expert;
};
/// The parameters in the form that computation uses: each matrix may be quantized or adapted.
struct ExpertParameters {
  Linear router;
  std::vector<Expert> experts;
  std::optional<SharedExpert> shared;

  /// Implicit conversion: plain matrices without adapters.
  ExpertParameters(const ExpertTensors& tensors);
};

/// Destinations of a product's gradients; undefined ones are not computed.
struct LinearGradients {
  at::Tensor weight_OI, bias_O;
  LoraGroup lora;
};
struct ExpertGradient {
  LinearGradients gate_up, down;
};
/// Destinations of a layer's gradients.
struct ExpertGradients {
  LinearGradients router;
  std::vector<ExpertGradient> experts;
  LinearGradients shared_router;
  ExpertGradient shared;
  bool adds = false;        // true: adds to the gradients of weights and biases instead of overwriting them
  bool needs_input = true;  // false: nothing below this layer is trained

  /// Implicit conversion: all gradients of plain matrices. For a frozen base, pass `num_experts` undefined ones.
  ExpertGradients(const ExpertTensors& tensors, bool adds_to_them = false);
  explicit ExpertGradients(size_t num_experts) : experts(num_experts) {}
};

/// The adapters of one expert, or their gradients.
struct ExpertLora {
  LoraGroup gate_up, down;
};
/// Views of those of one layer in the flat adapter unit or in its gradient, one for each expert; empty: none.
std::vector<ExpertLora> expert_lora(const ModelConfig& config, const Adapter& adapter, const UnitLayout& unit,
                                    int64_t layer, const at::Tensor& flat);

/// The input of a layer, of which the first num_tokens rows are tokens. The gradient of the other rows must be zero.
struct ExpertInput {
  const at::Tensor& x_TD;
  int64_t num_tokens;
  Dropout dropout = {};  // of the adapters of router and shared expert; its stream is that of the layer
};

/// Saved activations.
struct ExpertActivations {
  struct Mlp {
    at::Tensor gate_up_RG;  // gate first; R = rows of this expert, with padding
    LinearActivations gate_up, down;
    at::Tensor out_RD;  // between expert_forward and combine_experts only
    at::Tensor dx_RD;   // between expert_backward and router_backward only
  };
  Routing routing;
  at::Tensor logits_TE;  // their values are not needed after routing
  LinearActivations router;
  std::vector<Mlp> experts;
  LinearActivations shared_router;
  at::Tensor shared_weight_T;  // sigmoid, float32
  Mlp shared;
  at::Tensor weighted_NC;  // see ExpertOps::route_backward; complete after the last expert_backward
};

/// Returns the output of the layer, [T, D], plus `residual_TD` if it is defined; rows that are no tokens have only the
/// shared expert's. Fills `saved`.
at::Tensor experts_forward(const ExpertConfig& config, const ExpertParameters& parameters, const ExpertInput& input,
                           const at::Tensor& residual_TD, ExpertActivations& saved);

/// Recomputes `saved`: the forward pass up to the last activations that backward needs.
void experts_recompute(const ExpertConfig& config, const ExpertParameters& parameters, const ExpertInput& input,
                       ExpertActivations& saved);

/// Writes or adds the gradients of all parameters and returns that of the input, [T, D], undefined if not needed.
/// Experts without tokens get zeros. dprobability_E: router_loss_gradient(), or empty. Consumes `saved`.
at::Tensor experts_backward(const ExpertConfig& config, const ExpertParameters& parameters, const ExpertInput& input,
                            ExpertActivations& saved, const at::Tensor& dout_TD, const ExpertGradients& gradients,
                            std::span<const double> dprobability_E = {});

/// The output of a layer without a backward pass, of rows that are all tokens: y = multiply(x, linear) makes each
/// product. The bits of a row do not depend on the others if those of the products do not.
using MultiplyLinear = std::function<at::Tensor(const at::Tensor& x, const Linear& linear)>;
at::Tensor experts_output(const ExpertConfig& config, const ExpertParameters& parameters, const at::Tensor& x_TD,
                          const at::Tensor& residual_TD, const MultiplyLinear& multiply);

/// Fills saved.routing and makes room for the experts.
void route_tokens(const ExpertConfig& config, const Linear& router, const ExpertInput& input, ExpertActivations& saved);

/// One expert of its tokens. needs_output: false to recompute activations only.
void expert_forward(const ExpertConfig& config, const Expert& expert, int64_t index, const ExpertInput& input,
                    ExpertActivations& saved, bool needs_output = true);

/// The shared expert of all rows.
void shared_expert_forward(const ExpertConfig& config, const SharedExpert& shared, const ExpertInput& input,
                           ExpertActivations& saved, bool needs_output = true);

/// Returns residual + the sum of all experts' outputs, which it frees.
at::Tensor combine_experts(const ExpertInput& input, const at::Tensor& residual_TD, ExpertActivations& saved);

/// Consumes the activations of this expert.
void expert_backward(const ExpertConfig& config, const Expert& expert, int64_t index, const ExpertInput& input,
                     ExpertActivations& saved, const at::Tensor& dout_TD, const ExpertGradient& gradient, bool adds,
                     bool needs_input);

/// The rest of the backward pass: router, shared expert, and the sum of the gradients of the input. `gradients` may
/// have no experts.
at::Tensor router_backward(const ExpertConfig& config, const Linear& router, const std::optional<SharedExpert>& shared,
                           const ExpertInput& input, ExpertActivations& saved, const at::Tensor& dout_TD,
                           const ExpertGradients& gradients, std::span<const double> dprobability_E = {});

}  // namespace plumb
