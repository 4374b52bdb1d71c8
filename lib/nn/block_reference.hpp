// The decoder block as ordinary LibTorch operations with explicit masks, for autograd to differentiate: what block.hpp
// and attention.hpp must equal. Computes in the dtype of its arguments; tests pass float64. Only tests use this.
// Source: transformers modeling_llama.py, modeling_mistral.py, modeling_qwen2.py, modeling_qwen3.py.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "lib/model/model_config.hpp"
#include "lib/nn/attention.hpp"
#include "lib/nn/block.hpp"

namespace plumb::reference {

/// [T, T]: which tokens (columns) a token (row) sees. sliding_window as in AttentionShape.
at::Tensor visible_tokens(std::span<const int64_t> document_begin, int64_t sliding_window);

/// qkv: [T, (H + 2G) K]; returns [T, H K].
at::Tensor attention(const AttentionShape& shape, const at::Tensor& qkv, std::span<const int64_t> document_begin);

at::Tensor block(const ModelConfig& config, int64_t layer, const BlockTensors& parameters, const at::Tensor& input_TD,
                 std::span<const int64_t> document_begin);

}  // namespace plumb::reference
