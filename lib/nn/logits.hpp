// Logits from the product of hidden states with the head: some families scale or cap them (LogitConfig). Training,
// evaluation and decoding all come here, so that no loss sees other logits than generation does.
// Source: transformers modeling_gemma2.py (final_logit_softcapping), modeling_granite.py, modeling_cohere2.py.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/model/model_config.hpp"

namespace plumb {

/// Replaces the scaled products by the logits: z = cap * tanh(z / cap). The scale is already in the product.
void cap_logits(const at::Tensor& logits, const LogitConfig& config);

/// Replaces gradients of logits by gradients of the products, scale included. logits: those of the forward pass; read
/// only if there is a cap.
void logits_backward(const at::Tensor& dlogits, const at::Tensor& logits, const LogitConfig& config);

}  // namespace plumb
