// The decoder block as plain LibTorch operations with explicit masks, differentiated by autograd: the reference for
// block.hpp and attention.hpp. Computes in the dtype of its arguments; tests pass float64. Used by tests only.
// Source: the modeling files of transformers.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "lib/model/model_config.hpp"
#include "lib/nn/attention.hpp"
#include "lib/nn/block.hpp"

namespace plumb::reference {

/// [T, T], bool: whether a token (row) attends to another token (column). sliding_window: as in AttentionShape.
at::Tensor visible_tokens(std::span<const int64_t> document_begin, int64_t sliding_window);

/// qkv: [T, (H + 2G) K]; returns [T, H K]. The sinks are this tensor, whatever `shape` says.
at::Tensor attention(const AttentionShape& shape, const at::Tensor& qkv, std::span<const int64_t> document_begin,
                     const at::Tensor& sinks_H = {});

/// x itself if the weight is undefined.
at::Tensor norm(const at::Tensor& x, const NormConfig& config, const at::Tensor& weight, const at::Tensor& bias);

/// The feed-forward network between its two products.
at::Tensor feed_forward(FeedForward kind, const at::Tensor& gate_up);

/// Returns the block's output, [T, D].
at::Tensor block(const ModelConfig& config, int64_t layer, const BlockTensors& parameters, const at::Tensor& input_TD,
                 std::span<const int64_t> document_begin);

}  // namespace plumb::reference
