#include "lib/nn/attention.hpp"

#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <limits>
#include <optional>
#include <tuple>

#include "lib/nn/attention_cuda.hpp"
#include "lib/nn/matmul.hpp"
#include "lib/nn/tiled_attention.hpp"

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
  int64_t source_begin = 0;  // of the nearest document without a shared prefix
  for (size_t i = 0; i + 1 < documents.begin.size(); ++i) {
    const int64_t length = documents.begin[i + 1] - documents.begin[i];
    const int64_t prefix = documents.prefix_length.empty() ? 0 : documents.prefix_length[i];
    if (prefix == 0) source_begin = documents.begin[i];
    if (prefix > 0) {
      groups.push_back({documents.begin[i], 1, prefix + length, prefix, source_begin});
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

/// The rows of a group as [count, length, columns].
at::Tensor texts_of(const at::Tensor& rows, const Group& group) {
  return rows.narrow(0, group.begin, group.count * group.length).view({group.count, group.length, rows.size(1)});
}

/// Additive mask of a causal window; only needed if a document is longer than the window.
std::optional<at::Tensor> window_mask(const AttentionShape& shape, const Group& group, const at::Tensor& like) {
  if (shape.sliding_window == 0 || group.length <= shape.sliding_window) return std::nullopt;
  const auto allowed =
      at::ones({group.length, group.length}, like.options().dtype(at::kBool)).tril().triu(-(shape.sliding_window - 1));
  return at::full({group.length, group.length}, -std::numeric_limits<float>::infinity(), like.options())
      .masked_fill(allowed, 0.0);
}

/// Whether tiles compute it, not LibTorch's operator.
bool is_for_tiles(const AttentionShape& shape, const at::Tensor& rows) {
  return shape.is_tiled() || rows.scalar_type() == at::kBFloat16;
}

/// In the type that attention computes in.
at::Tensor as_computed(const at::Tensor& rows) { return has_pair_products() ? rows : rows.to(at::kFloat); }

/// Output of the documents of a group, [count, H, length, K] and [count, H, length].
struct GroupOutput {
  at::Tensor output, log_sum_exp;
};
GroupOutput forward_of(const AttentionShape& shape, const at::Tensor& rows, const Group& group) {
  const int64_t h = shape.num_heads, g = shape.num_kv_heads, k = shape.head_dim;
  if (is_for_tiles(shape, rows)) {
    const TiledOutput tiled = tiled_attention_forward(shape, texts_of(rows, group));
    return {tiled.out_NTO.view({group.count, group.length, h, k}).transpose(1, 2), tiled.log_sum_exp_NHT};
  }
  const auto mask = window_mask(shape, group, rows);
  auto [output, log_sum_exp] =
      at::_scaled_dot_product_flash_attention_for_cpu(heads(rows, group, 0, h, k), heads(rows, group, h, g, k),
                                                      heads(rows, group, h + g, g, k), 0.0, !mask, mask, shape.scale());
  return {std::move(output), std::move(log_sum_exp)};
}

/// Gradients of query, key and value, [count, heads, length, K].
std::tuple<at::Tensor, at::Tensor, at::Tensor> backward_of(const AttentionShape& shape, const at::Tensor& rows,
                                                           const Group& group, const GroupOutput& saved,
                                                           const at::Tensor& dout_rows, const Group& dout_group,
                                                           const at::Tensor& dsinks_H) {
  const int64_t h = shape.num_heads, g = shape.num_kv_heads, k = shape.head_dim;
  const at::Tensor dout = heads(dout_rows, dout_group, 0, h, k);
  if (is_for_tiles(shape, rows)) {
    const at::Tensor flat_dout = dout.transpose(1, 2).reshape({group.count, group.length, h * k});
    const at::Tensor flat_out = saved.output.transpose(1, 2).reshape({group.count, group.length, h * k});
    const at::Tensor dqkv =
        tiled_attention_backward(shape, texts_of(rows, group), {flat_out, saved.log_sum_exp}, flat_dout, dsinks_H)
            .view({group.count, group.length, h + 2 * g, k})
            .transpose(1, 2);
    return {dqkv.narrow(1, 0, h), dqkv.narrow(1, h, g), dqkv.narrow(1, h + g, g)};
  }
  const auto mask = window_mask(shape, group, rows);
  return at::_scaled_dot_product_flash_attention_for_cpu_backward(
      dout, heads(rows, group, 0, h, k), heads(rows, group, h, g, k), heads(rows, group, h + g, g, k), saved.output,
      saved.log_sum_exp, 0.0, !mask, mask, shape.scale());
}

}  // namespace

void attention_forward(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                       const at::Tensor& out, AttentionActivations& saved) {
  if (!qkv.is_cpu()) return attention_forward_cuda(shape, qkv, documents, out, saved);
  const int64_t h = shape.num_heads, k = shape.head_dim;
  const at::Tensor qkv_computed = as_computed(qkv);
  for (const Group& group : group_documents(documents)) {
    const auto [rows, within] = contiguous_rows(qkv_computed, group);
    auto [output, log_sum_exp] = forward_of(shape, rows, within);
    const Group own{group.begin, group.count, group.length - group.prefix};  // the prefix's output is already written
    heads(out, own, 0, h, k).copy_(output.narrow(2, group.prefix, own.length));
    saved.outputs.push_back(std::move(output));
    saved.log_sum_exps.push_back(std::move(log_sum_exp));
  }
}

void attention_backward(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                        const AttentionActivations& saved, const at::Tensor& dout, const at::Tensor& dqkv,
                        const at::Tensor& dsinks_H) {
  if (!qkv.is_cpu()) return attention_backward_cuda(shape, qkv, documents, saved, dout, dqkv, dsinks_H);
  const int64_t h = shape.num_heads, g = shape.num_kv_heads, k = shape.head_dim;
  const at::Tensor qkv_computed = as_computed(qkv), dout_computed = as_computed(dout);
  size_t call = 0;
  for (const Group& group : group_documents(documents)) {
    const auto [rows, within] = contiguous_rows(qkv_computed, group);
    auto [dout_rows, dout_within] = contiguous_rows(dout_computed, group);
    if (group.prefix > 0) dout_rows.narrow(0, 0, group.prefix).zero_();  // its output belongs to the source
    const auto [dq, dk, dv] = backward_of(shape, rows, within, {saved.outputs[call], saved.log_sum_exps[call]},
                                          dout_rows, dout_within, dsinks_H);
    const Group own{group.begin, group.count, group.length - group.prefix};
    heads(dqkv, own, 0, h, k).copy_(dq.narrow(2, group.prefix, own.length));
    heads(dqkv, own, h, g, k).copy_(dk.narrow(2, group.prefix, own.length));
    heads(dqkv, own, h + g, g, k).copy_(dv.narrow(2, group.prefix, own.length));
    if (group.prefix > 0) {  // every document uses its keys and values, the source alone its queries
      const Group prefix{group.prefix_begin, 1, group.prefix};
      heads(dqkv, prefix, h, g, k).add_(dk.narrow(2, 0, group.prefix));
      heads(dqkv, prefix, h + g, g, k).add_(dv.narrow(2, 0, group.prefix));
    }
    ++call;
  }
}

}  // namespace plumb
