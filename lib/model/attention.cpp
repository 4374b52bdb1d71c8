#include "lib/model/attention.hpp"

#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <cmath>
#include <limits>
#include <optional>

namespace plumb {

namespace {

/// Documents that go into one call: `count` of `length` tokens each, from `begin`.
struct Group {
  int64_t begin;
  int64_t count;
  int64_t length;
};

/// Neighbours of equal length share a call.
std::vector<Group> group_documents(std::span<const int64_t> document_begin) {
  std::vector<Group> groups;
  for (size_t i = 0; i + 1 < document_begin.size(); ++i) {
    const int64_t length = document_begin[i + 1] - document_begin[i];
    if (!groups.empty() && groups.back().length == length) {
      ++groups.back().count;
    } else {
      groups.push_back({document_begin[i], 1, length});
    }
  }
  return groups;
}

/// Columns [head * K, (head + num_heads) * K) of a group's rows as [count, num_heads, length, K].
at::Tensor heads(const at::Tensor& rows, const Group& group, int64_t head, int64_t num_heads, int64_t head_dim) {
  const int64_t columns = rows.size(1);
  return rows.as_strided({group.count, num_heads, group.length, head_dim},
                         {group.length * columns, head_dim, columns, 1},
                         rows.storage_offset() + group.begin * columns + head * head_dim);
}

/// Additive mask of a causal window; only needed where a document is longer than the window.
std::optional<at::Tensor> window_mask(const AttentionShape& shape, const Group& group, const at::Tensor& like) {
  if (shape.sliding_window == 0 || group.length <= shape.sliding_window) return std::nullopt;
  const auto allowed =
      at::ones({group.length, group.length}, like.options().dtype(at::kBool)).tril().triu(-(shape.sliding_window - 1));
  return at::full({group.length, group.length}, -std::numeric_limits<float>::infinity(), like.options())
      .masked_fill(allowed, 0.0);
}

}  // namespace

void attention_forward(const AttentionShape& shape, const at::Tensor& qkv, std::span<const int64_t> document_begin,
                       const at::Tensor& out, AttentionKept& kept) {
  const int64_t h = shape.num_heads, g = shape.num_kv_heads, k = shape.head_dim;
  for (const Group& group : group_documents(document_begin)) {
    const auto mask = window_mask(shape, group, qkv);
    auto [output, log_sum_exp] = at::_scaled_dot_product_flash_attention_for_cpu(
        heads(qkv, group, 0, h, k), heads(qkv, group, h, g, k), heads(qkv, group, h + g, g, k), 0.0, !mask, mask,
        1.0 / std::sqrt(static_cast<double>(k)));
    heads(out, group, 0, h, k).copy_(output);
    kept.outputs.push_back(std::move(output));
    kept.log_sum_exps.push_back(std::move(log_sum_exp));
  }
}

void attention_backward(const AttentionShape& shape, const at::Tensor& qkv, std::span<const int64_t> document_begin,
                        const AttentionKept& kept, const at::Tensor& dout, const at::Tensor& dqkv) {
  const int64_t h = shape.num_heads, g = shape.num_kv_heads, k = shape.head_dim;
  size_t call = 0;
  for (const Group& group : group_documents(document_begin)) {
    const auto mask = window_mask(shape, group, qkv);
    const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        heads(dout, group, 0, h, k), heads(qkv, group, 0, h, k), heads(qkv, group, h, g, k),
        heads(qkv, group, h + g, g, k), kept.outputs[call], kept.log_sum_exps[call], 0.0, !mask, mask,
        1.0 / std::sqrt(static_cast<double>(k)));
    heads(dqkv, group, 0, h, k).copy_(dq);
    heads(dqkv, group, h, g, k).copy_(dk);
    heads(dqkv, group, h + g, g, k).copy_(dv);
    ++call;
  }
}

}  // namespace plumb
