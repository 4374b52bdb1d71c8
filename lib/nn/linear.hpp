// The matrix products of a block, y = x W^T + b, with all that W may be: plain or in NF4, trained or frozen, alone or
// with adapters beside it. The layers of one product (q, k, v) have the same input, so they share one W, one
// dequantization and one product with all their A; B A is never formed.
// Source: LoRA, arXiv:2106.09685; DoRA, arXiv:2402.09353, section 4.3 (the norm is a constant in backward); QLoRA,
// arXiv:2305.14314; PEFT tuners/lora.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <vector>

#include "lib/model/lora.hpp"
#include "lib/model/nf4.hpp"
#include "lib/nn/tensor_ops.hpp"

namespace plumb {

// T = tokens, I = inputs, O = outputs of all layers of the product, R = sum of their ranks.

/// The adapters of one product, or their gradients: views into the flat adapter.
struct LoraGroup {
  struct Module {
    int64_t first_output, num_outputs;  // its columns of y
    int64_t first_rank, rank;           // its rows of a_RI
    double scaling;
    at::Tensor b;                   // [num_outputs, rank]
    at::Tensor magnitude;           // [num_outputs], DoRA only
    at::Tensor squared_norms = {};  // DoRA, parameters only: of the rows of W, float32
  };
  at::Tensor a_RI;
  std::vector<Module> modules;  // empty: not adapted
};

/// A matrix in NF4, whose rows are those of several quantized layers one after the other. It is plain only while it is
/// used: every use dequantizes it into `scratch`, which all matrices of a rank share.
struct QuantizedRows {
  std::vector<Nf4View> layers;
  int64_t num_rows = 0;
  int64_t num_columns = 0;
  at::Tensor scratch;  // flat, in the dtype of the activations
};

struct Linear {
  at::Tensor weight_OI;  // undefined where it is quantized
  at::Tensor bias_O;     // may be undefined
  QuantizedRows quantized;
  LoraGroup lora;

  /// [O, I]; of a quantized matrix valid until the next that shares its scratch is asked for.
  at::Tensor weight() const;
};

/// What backward needs besides x.
struct LinearActivations {
  at::Tensor xa_TR;
  std::vector<at::Tensor> directions;  // of each DoRA layer x (W + scaling B A)^T, [T, num_outputs]
};

// Dropout zeroes inputs of A. The layers of one product share its mask.

/// Returns y [T, O], with `residual_TO` added where it is defined (then there is no bias).
at::Tensor linear_forward(const Linear& linear, const at::Tensor& x_TI, const at::Tensor& residual_TO,
                          const Dropout& dropout, LinearActivations& kept);

/// Only what backward needs, again.
void linear_recompute(const Linear& linear, const at::Tensor& x_TI, const Dropout& dropout, LinearActivations& kept);

struct LinearInputGradient {
  at::Tensor dx_TI;  // undefined if it was not asked for
  at::Tensor g_TR;   // gradient of x A^T
};

/// First half of backward, which does not need x: the gradients of the input, of B and of the magnitudes. dy_TO is left
/// as it is. `gradients`: of the adapters, written; may be null where there are none.
LinearInputGradient linear_backward_input(const Linear& linear, const at::Tensor& dy_TO, const LinearActivations& kept,
                                          const Dropout& dropout, bool needs_dx, const LoraGroup* gradients);

/// Second half: the gradient of A.
void linear_backward_a(const LinearInputGradient& backward, const at::Tensor& x_TI, const Dropout& dropout,
                       const LoraGroup& gradients);

/// Views of one layer's adapters in the flat adapter (or of its gradient), by product. squared_norms stay undefined.
PerProduct<LoraGroup> lora_groups(const ModelConfig& config, const Adapter& adapter, const UnitLayout& unit,
                                  int64_t layer, const at::Tensor& flat);

}  // namespace plumb
