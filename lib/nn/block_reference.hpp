// The decoder block as plain LibTorch operations with explicit masks, differentiated by autograd: the reference for
// block.hpp and attention.hpp. Computes in the dtype of its arguments; tests pass float64. Used by tests only.
// Source: transformers modeling_llama.py, modeling_mistral.py, modeling_qwen2.py, modeling_qwen3.py.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "lib/model/model_config.hpp"
#include "lib/nn/attention.hpp"
#include "lib/nn/block.hpp"

namespace plumb::reference {

/// [T, T], bool: whether a token (row) attends to another token (column). sliding_window: as in AttentionShape.
at::Tensor visible_tokens(std::span<const int64_t> document_begin, int64_t sliding_window);

/// qkv: [T, (H + 2G) K]; returns [T, H K].
at::Tensor attention(const AttentionShape& shape, const at::Tensor& qkv, std::span<const int64_t> document_begin);

/// Returns the block's output, [T, D].
at::Tensor block(const ModelConfig& config, int64_t layer, const BlockTensors& parameters, const at::Tensor& input_TD,
                 std::span<const int64_t> document_begin);

}  // namespace plumb::reference
