// One call for all documents of a micro-batch, on views of qkv. If documents share a prefix, keys and values are
// gathered first, each document's prefix before its own, and their gradients are summed back in that order. Sinks are
// one more part of each softmax: outputs shrink by its share. Nothing here knows what a device is, so that the tests
// run it on CPU tensors with plain arithmetic for the operator.
#include "lib/nn/attention_cuda.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <numeric>

#include "lib/base/check.hpp"
#include "lib/nn/expert_ops.hpp"
#include "lib/nn/flash_attention.hpp"
#include "lib/nn/tensor_ops.hpp"

namespace plumb {

namespace {

constexpr int64_t kHeadMultiple = 8, kMostHeadDim = 256;

void check_supported(const AttentionShape& shape, const at::Tensor& qkv) {
  constexpr const char* kCure = "run this model on CPUs";
  if (qkv.scalar_type() != at::kBFloat16)
    throw_error<UsageError>(
        "attention on a GPU: expected --dtype bfloat16, got {}: LibTorch's flash attention has no "
        "float32; choose bfloat16, or {}",
        c10::toString(qkv.scalar_type()), kCure);
  if (shape.score_cap > 0)
    throw_error<UsageError>(
        "attention on a GPU: the model caps its scores at {} (attn_logit_softcapping), which "
        "LibTorch's flash attention does not; {}",
        shape.score_cap, kCure);
  if (shape.head_dim % kHeadMultiple != 0 || shape.head_dim > kMostHeadDim)
    throw_error<UsageError>("attention on a GPU: expected a head_dim that is a multiple of {} up to {}, got {}; {}",
                            kHeadMultiple, kMostHeadDim, shape.head_dim, kCure);
}

/// Where the keys of each document are.
struct Keys {
  std::vector<int32_t> begin = {0};  // of each document, then their number
  std::vector<int64_t> row;          // of qkv, of each key; empty: the keys are the rows in their order
};

Keys keys_of(const Documents& documents) {
  Keys keys;
  const bool has_prefixes = std::any_of(documents.prefix_length.begin(), documents.prefix_length.end(),
                                        [](int64_t prefix) { return prefix > 0; });
  int64_t source_begin = 0;  // of the nearest document without a shared prefix
  for (size_t i = 0; i + 1 < documents.begin.size(); ++i) {
    const int64_t begin = documents.begin[i], length = documents.begin[i + 1] - begin;
    const int64_t prefix = has_prefixes ? documents.prefix_length[i] : 0;
    if (prefix == 0) source_begin = begin;
    keys.begin.push_back(keys.begin.back() + static_cast<int32_t>(prefix + length));
    if (!has_prefixes) continue;
    for (int64_t row = 0; row < prefix; ++row) keys.row.push_back(source_begin + row);
    for (int64_t row = 0; row < length; ++row) keys.row.push_back(begin + row);
  }
  return keys;
}

template <class T>
int64_t longest(std::span<const T> begin) {
  int64_t most = 0;
  for (size_t i = 0; i + 1 < begin.size(); ++i) most = std::max<int64_t>(most, begin[i + 1] - begin[i]);
  return most;
}

at::Tensor copy_to(at::Device device, const std::vector<int32_t>& values) {
  return at::from_blob(const_cast<int32_t*>(values.data()), {std::ssize(values)}, at::kInt)
      .to(device, at::kInt, /*non_blocking=*/false, /*copy=*/true);
}

/// Columns [head * K, (head + num_heads) * K) as heads.
at::Tensor heads(const at::Tensor& rows, int64_t head, int64_t num_heads, int64_t head_dim) {
  return rows.narrow(1, head * head_dim, num_heads * head_dim).unflatten(1, {num_heads, head_dim});
}

FlashInput flash_input(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                       const Keys& keys) {
  const int64_t h = shape.num_heads, g = shape.num_kv_heads, k = shape.head_dim, num_rows = documents.begin.back();
  const at::Tensor rows = qkv.narrow(0, 0, num_rows);
  at::Tensor kv = rows.narrow(1, h * k, 2 * g * k);
  if (!keys.row.empty()) kv = take_rows(qkv, keys.row).narrow(1, h * k, 2 * g * k);
  return {.q_THK = heads(rows, 0, h, k),
          .k_SGK = heads(kv, 0, g, k),
          .v_SGK = heads(kv, g, g, k),
          .query_begin = copy_to(qkv.device(), {documents.begin.begin(), documents.begin.end()}),
          .key_begin = copy_to(qkv.device(), keys.begin),
          .most_queries = longest(documents.begin),
          .most_keys = longest(std::span<const int32_t>(keys.begin)),
          .scale = shape.scale(),
          .window = shape.sliding_window};
}

/// [H, 1] on the device of `like`.
at::Tensor sinks_of(const AttentionShape& shape, const at::Tensor& like) {
  return at::from_blob(const_cast<float*>(shape.sinks_H), {shape.num_heads, 1},
                       at::TensorOptions().dtype(at::kFloat).device(like.device()));
}

/// Rows after the last document are of no document.
void zero_after(const at::Tensor& rows, int64_t num_rows) { rows.narrow(0, num_rows, rows.size(0) - num_rows).zero_(); }

/// Adds each key's gradient to that of its row, and rounds the sums once.
void sum_of_keys(const Keys& keys, const at::Tensor& dkv_SC, const at::Tensor& dkv_rows) {
  const at::Tensor sums = at::zeros(dkv_rows.sizes(), dkv_rows.options().dtype(at::kFloat));
  ops_of(sums).add_rows_by_token(dkv_SC, keys.row, -1, sums);
  at::Tensor(dkv_rows).copy_(sums);
}

}  // namespace

void attention_forward_cuda(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                            const at::Tensor& out, AttentionActivations& saved) {
  check_supported(shape, qkv);
  const int64_t num_rows = documents.begin.back();
  const FlashInput input = flash_input(shape, qkv, documents, keys_of(documents));
  FlashOutput output = flash_forward(input);
  const at::Tensor out_THK = heads(out.narrow(0, 0, num_rows), 0, shape.num_heads, shape.head_dim);
  if (shape.sinks_H != nullptr) {
    const at::Tensor with_sinks = at::logaddexp(output.log_sum_exp_HT, sinks_of(shape, qkv));
    const at::Tensor share_HT = at::exp(output.log_sum_exp_HT - with_sinks);
    output = {output.out_THK * share_HT.t().unsqueeze(2), with_sinks};
  }
  out_THK.copy_(output.out_THK);
  zero_after(out, num_rows);
  saved.outputs.push_back(out_THK);  // in memory that the block keeps in any case
  saved.log_sum_exps.push_back(output.log_sum_exp_HT);
}

void attention_backward_cuda(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                             const AttentionActivations& saved, const at::Tensor& dout, const at::Tensor& dqkv,
                             const at::Tensor& dsinks_H) {
  const int64_t h = shape.num_heads, g = shape.num_kv_heads, k = shape.head_dim, num_rows = documents.begin.back();
  const Keys keys = keys_of(documents);
  const FlashInput input = flash_input(shape, qkv, documents, keys);
  const FlashOutput output = {saved.outputs.front(), saved.log_sum_exps.front()};
  const at::Tensor dout_THK = heads(dout.narrow(0, 0, num_rows), 0, h, k);
  const auto [dq, dk, dv] = flash_backward(input, output, dout_THK);
  const at::Tensor drows = dqkv.narrow(0, 0, num_rows), dkv = drows.narrow(1, h * k, 2 * g * k);
  heads(drows, 0, h, k).copy_(dq);
  if (keys.row.empty()) {
    heads(dkv, 0, g, k).copy_(dk);
    heads(dkv, g, g, k).copy_(dv);
  } else {
    sum_of_keys(keys, at::cat({dk.flatten(1), dv.flatten(1)}, 1), dkv);
  }
  zero_after(dqkv, num_rows);
  if (!dsinks_H.defined()) return;
  const at::Tensor dots_TH =
      expert_ops_of(dout).row_dots(dout_THK.flatten(0, 1), output.out_THK.flatten(0, 1)).view({num_rows, h});
  const at::Tensor share_HT = at::exp(sinks_of(shape, qkv) - output.log_sum_exp_HT);
  at::Tensor(dsinks_H).sub_((share_HT.t() * dots_TH).sum(0));
}

}  // namespace plumb
