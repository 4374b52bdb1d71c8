// The kernels of text generation as functions on tensors, selected by the device of the tensors like those of
// tensor_ops.hpp: products of few rows and attention to a paged cache of keys and values.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "lib/nn/attention.hpp"
#include "lib/nn/linear.hpp"
#include "lib/nn/model_units.hpp"

namespace plumb {

// B = rows of a step, I = inputs, O = outputs, H = query heads, G = key/value heads, K = head_dim.

inline constexpr int64_t kPageTokens = 64;

/// x W^T + bias in the dtype of x, which must be contiguous; bias_O may be undefined. The bits of a row do not depend
/// on the other rows or on the number of threads.
at::Tensor multiply_rows(const at::Tensor& x_BI, const at::Tensor& weight_OI, const at::Tensor& bias_O = {});

/// The same of a matrix in NF4, of which a thread dequantizes as much at a time as its cache holds.
at::Tensor multiply_rows(const at::Tensor& x_BI, const QuantizedRows& weight, const at::Tensor& bias_O = {});

/// The product of a block with the adapters beside it, without dropout, whose set_row_scales() has been called. The
/// bits of a row do not depend on the others; they differ between many rows (a prompt's tokens) and few in float32.
at::Tensor multiply_linear(const Linear& linear, const at::Tensor& x_BI, bool has_many_rows);

/// The products of normed hidden states with the head and the adapter beside it, float32 [B, V].
at::Tensor multiply_head(const HeadTensors& head, const at::Tensor& normed_BD);

/// Keys and values of one text: pages of kPageTokens tokens in order, each of all layers, [layers, 2, G, kPageTokens,
/// K]. Texts with the same beginning may share pages that are full.
struct CachedText {
  std::vector<at::Tensor> pages;
  int64_t num_tokens = 0;
};

at::Tensor empty_page(const AttentionShape& shape, int64_t num_layers, at::TensorOptions options);

/// Writes the keys and values of tokens [first_token, ...): columns [H K, (H + 2 G) K) of qkv, [tokens, (H + 2 G) K],
/// into the layer of pages that exist.
void write_cache(const AttentionShape& shape, int64_t layer, const at::Tensor& qkv, const CachedText& text,
                 int64_t first_token);

/// Attention of one new token of each text to those of its tokens that the window shows; its own key and value are the
/// last in its cache. qkv_BQ: [B, (H + 2 G) K], after rotation. Returns [B, H K].
at::Tensor attend_to_cache(const AttentionShape& shape, int64_t layer, const at::Tensor& qkv_BQ,
                           std::span<const CachedText* const> texts);

}  // namespace plumb
