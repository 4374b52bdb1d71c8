#include "lib/nn/attention.hpp"

#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <cmath>
#include <limits>
#include <optional>

namespace plumb {

namespace {

/// The documents of one call: `count` documents of `length` tokens each, from row `begin`; or one document whose first
/// `prefix` tokens are the rows from `prefix_begin`.
struct Group {
  int64_t begin;
  int64_t count;
  int64_t length;
  int64_t prefix = 0;
  int64_t prefix_begin = 0;
};

/// Consecutive documents of equal length share a call.
std::vector<Group> group_documents(const Documents& documents) {
  std::vector<Group> groups;
  for (size_t i = 0; i + 1 < documents.begin.size(); ++i) {
    const int64_t length = documents.begin[i + 1] - documents.begin[i];
    const int64_t prefix = documents.prefix_length.empty() ? 0 : documents.prefix_length[i];
    if (prefix > 0) {
      groups.push_back({documents.begin[i], 1, prefix + length, prefix, documents.begin[i - 1]});
    } else if (!groups.empty() && groups.back().prefix == 0 && groups.back().length == length) {
      ++groups.back().count;
    } else {
      groups.push_back({documents.begin[i], 1, length});
    }
  }
  return groups;
}

/// The rows of a group as one contiguous range, and the group's position in them.
struct ContiguousRows {
  at::Tensor rows;
  Group group;
};
ContiguousRows contiguous_rows(const at::Tensor& rows, const Group& group) {
  if (group.prefix == 0) return {rows, group};
  const at::Tensor own = rows.narrow(0, group.begin, group.length - group.prefix);
  return {at::cat({rows.narrow(0, group.prefix_begin, group.prefix), own}), {0, 1, group.length}};
}

/// Columns [head * K, (head + num_heads) * K) of a group's rows as [count, num_heads, length, K].
at::Tensor heads(const at::Tensor& rows, const Group& group, int64_t head, int64_t num_heads, int64_t head_dim) {
  const int64_t columns = rows.size(1);
  return rows.as_strided({group.count, num_heads, group.length, head_dim},
                         {group.length * columns, head_dim, columns, 1},
                         rows.storage_offset() + group.begin * columns + head * head_dim);
}

/// Additive mask of a causal window; only needed if a document is longer than the window.
std::optional<at::Tensor> window_mask(const AttentionShape& shape, const Group& group, const at::Tensor& like) {
  if (shape.sliding_window == 0 || group.length <= shape.sliding_window) return std::nullopt;
  const auto allowed =
      at::ones({group.length, group.length}, like.options().dtype(at::kBool)).tril().triu(-(shape.sliding_window - 1));
  return at::full({group.length, group.length}, -std::numeric_limits<float>::infinity(), like.options())
      .masked_fill(allowed, 0.0);
}

}  // namespace

void attention_forward(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                       const at::Tensor& out, AttentionActivations& saved) {
  const int64_t h = shape.num_heads, g = shape.num_kv_heads, k = shape.head_dim;
  const at::Tensor qkv_float = qkv.to(at::kFloat);
  for (const Group& group : group_documents(documents)) {
    const auto [rows, within] = contiguous_rows(qkv_float, group);
    const auto mask = window_mask(shape, within, qkv_float);
    auto [output, log_sum_exp] = at::_scaled_dot_product_flash_attention_for_cpu(
        heads(rows, within, 0, h, k), heads(rows, within, h, g, k), heads(rows, within, h + g, g, k), 0.0, !mask, mask,
        1.0 / std::sqrt(static_cast<double>(k)));
    const Group own{group.begin, group.count, group.length - group.prefix};  // the prefix's output is already written
    heads(out, own, 0, h, k).copy_(output.narrow(2, group.prefix, own.length));
    saved.outputs.push_back(std::move(output));
    saved.log_sum_exps.push_back(std::move(log_sum_exp));
  }
}

void attention_backward(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                        const AttentionActivations& saved, const at::Tensor& dout, const at::Tensor& dqkv) {
  const int64_t h = shape.num_heads, g = shape.num_kv_heads, k = shape.head_dim;
  const at::Tensor qkv_float = qkv.to(at::kFloat), dout_float = dout.to(at::kFloat);
  size_t call = 0;
  for (const Group& group : group_documents(documents)) {
    const auto [rows, within] = contiguous_rows(qkv_float, group);
    const auto mask = window_mask(shape, within, qkv_float);
    auto [dout_rows, dout_within] = contiguous_rows(dout_float, group);
    if (group.prefix > 0) dout_rows.narrow(0, 0, group.prefix).zero_();  // its output belongs to the document before
    const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        heads(dout_rows, dout_within, 0, h, k), heads(rows, within, 0, h, k), heads(rows, within, h, g, k),
        heads(rows, within, h + g, g, k), saved.outputs[call], saved.log_sum_exps[call], 0.0, !mask, mask,
        1.0 / std::sqrt(static_cast<double>(k)));
    const Group own{group.begin, group.count, group.length - group.prefix};
    heads(dqkv, own, 0, h, k).copy_(dq.narrow(2, group.prefix, own.length));
    heads(dqkv, own, h, g, k).copy_(dk.narrow(2, group.prefix, own.length));
    heads(dqkv, own, h + g, g, k).copy_(dv.narrow(2, group.prefix, own.length));
    if (group.prefix > 0) {  // both documents use its keys and values; only the document before uses its queries
      const Group prefix{group.prefix_begin, 1, group.prefix};
      heads(dqkv, prefix, h, g, k).add_(dk.narrow(2, 0, group.prefix));
      heads(dqkv, prefix, h + g, g, k).add_(dv.narrow(2, 0, group.prefix));
    }
    ++call;
  }
}

}  // namespace plumb
