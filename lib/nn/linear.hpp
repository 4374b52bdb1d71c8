// The matrix products of a block, y = x W^T + b. W may be plain or in NF4, trained or frozen, with or without adapters.
// The parameters of one product (q, k and v, or gate and up) have the same input, so they share one W, one
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

// T = tokens, I = inputs, O = outputs of all modules of the product, R = sum of their ranks.

/// The adapters of one product, or their gradients, as views into the flat adapter unit.
struct LoraGroup {
  struct Module {
    int64_t first_output, num_outputs;  // its columns of y
    int64_t first_rank, rank;           // its rows of a_RI
    double scaling;
    at::Tensor b;                   // [num_outputs, rank]
    at::Tensor magnitude;           // [num_outputs], DoRA only
    at::Tensor squared_norms = {};  // DoRA, parameters only: |W|^2 by row, float32
    at::Tensor row_scales = {};     // set_row_scales(); undefined otherwise
  };
  at::Tensor a_RI;
  std::vector<Module> modules;  // empty: not adapted
};

/// An NF4 matrix, whose rows are those of several quantized layers in order. Every use dequantizes it into `scratch`,
/// which all matrices of a rank share.
struct QuantizedRows {
  std::vector<Nf4View> layers;
  int64_t num_rows = 0;
  int64_t num_columns = 0;
  at::Tensor scratch;  // flat, in the dtype of the activations
};

struct Linear {
  at::Tensor weight_OI;  // undefined if quantized
  at::Tensor bias_O;     // may be undefined
  QuantizedRows quantized;
  LoraGroup lora;

  /// Returns [O, I]. If quantized, it is valid until weight() is called for another matrix with the same scratch.
  at::Tensor weight() const;
};

/// DoRA: sets row_scales, magnitude / |W + scaling B A| by row in the dtype of the activations, of every module, for
/// products with the same parameters many times over. Other adapters have none.
void set_row_scales(Linear& linear);

/// Saved for the backward pass, in addition to x.
struct LinearActivations {
  at::Tensor xa_TR;
  std::vector<at::Tensor> directions;  // x (W + scaling B A)^T of each DoRA module, [T, num_outputs]
};

// Dropout applies to the input of A. The modules of one product share its mask.

/// Returns y, [T, O], plus `residual_TO` if it is defined. Fills `saved`.
at::Tensor linear_forward(const Linear& linear, const at::Tensor& x_TI, const at::Tensor& residual_TO,
                          const Dropout& dropout, LinearActivations& saved);

/// Recomputes `saved` only.
void linear_recompute(const Linear& linear, const at::Tensor& x_TI, const Dropout& dropout, LinearActivations& saved);

struct LinearInputGradient {
  at::Tensor dx_TI;  // undefined if it was not asked for
  at::Tensor g_TR;   // gradient of x A^T
};

/// First half of the backward pass, which does not need x: returns the gradient of the input and writes those of B and
/// of the magnitudes into `gradients`, which may be null without adapters. dy_TO is not modified.
LinearInputGradient linear_backward_input(const Linear& linear, const at::Tensor& dy_TO, const LinearActivations& saved,
                                          const Dropout& dropout, bool needs_dx, const LoraGroup* gradients);

/// Second half of the backward pass: writes the gradient of A.
void linear_backward_a(const LinearInputGradient& backward, const at::Tensor& x_TI, const Dropout& dropout,
                       const LoraGroup& gradients);

/// Views of one layer's adapters in the flat adapter unit or in its gradient, by product, without those of experts
/// (expert_lora). squared_norms stay undefined.
PerProduct<LoraGroup> lora_groups(const ModelConfig& config, const Adapter& adapter, const UnitLayout& unit,
                                  int64_t layer, const at::Tensor& flat);

}  // namespace plumb
