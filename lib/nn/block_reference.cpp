#include "lib/nn/block_reference.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>

#include "lib/kernels/reference.hpp"
#include "lib/nn/rope.hpp"

namespace plumb::reference {

namespace {

/// The position of each token in its document.
at::Tensor positions_of(std::span<const int64_t> document_begin) {
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i + 1 < document_begin.size(); ++i)
    parts.push_back(at::arange(document_begin[i + 1] - document_begin[i]));
  return at::cat(parts);
}

at::Tensor project(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor y = at::matmul(x, weight.t());
  return bias.defined() ? y + bias : y;
}

}  // namespace

at::Tensor visible_tokens(std::span<const int64_t> document_begin, int64_t sliding_window) {
  const int64_t num_tokens = document_begin.back();
  const at::Tensor index = at::arange(num_tokens);
  const at::Tensor distance = index.unsqueeze(1) - index.unsqueeze(0);  // from query back to key
  at::Tensor document = at::zeros({num_tokens}, index.options());
  for (int64_t begin : document_begin.subspan(1)) document = document + index.ge(begin);
  at::Tensor visible = distance.ge(0).logical_and(document.unsqueeze(1).eq(document.unsqueeze(0)));
  if (sliding_window > 0) visible = visible.logical_and(distance.lt(sliding_window));
  return visible;
}

at::Tensor attention(const AttentionShape& shape, const at::Tensor& qkv, std::span<const int64_t> document_begin) {
  const int64_t h = shape.num_heads, g = shape.num_kv_heads, k = shape.head_dim;
  const at::Tensor heads = qkv.view({qkv.size(0), h + 2 * g, k}).transpose(0, 1);
  const at::Tensor q = heads.narrow(0, 0, h);
  const at::Tensor keys = heads.narrow(0, h, g).repeat_interleave(h / g, 0);  // head i reads key head i / (H / G)
  const at::Tensor values = heads.narrow(0, h + g, g).repeat_interleave(h / g, 0);
  const at::Tensor hidden = visible_tokens(document_begin, shape.sliding_window).logical_not();
  const at::Tensor scores = (at::matmul(q, keys.transpose(1, 2)) / std::sqrt(static_cast<double>(k)))
                                .masked_fill(hidden, -std::numeric_limits<double>::infinity());
  return at::matmul(at::softmax(scores, -1), values).transpose(0, 1).reshape({qkv.size(0), h * k});
}

at::Tensor block(const ModelConfig& config, int64_t layer, const BlockTensors& p, const at::Tensor& input_TD,
                 std::span<const int64_t> document_begin) {
  const int64_t tokens = input_TD.size(0), h = config.num_heads, g = config.num_kv_heads, k = config.head_dim;
  const double epsilon = config.rms_norm_eps;
  const at::Tensor qkv = project(rms_norm(input_TD, p.input_norm_D, epsilon), p.qkv_QD, p.qkv_bias_Q);
  const at::Tensor heads = qkv.view({tokens, h + 2 * g, k});
  at::Tensor q = heads.narrow(1, 0, h), keys = heads.narrow(1, h, g);
  if (config.has_qk_norm) q = rms_norm(q, p.q_norm_K, epsilon), keys = rms_norm(keys, p.k_norm_K, epsilon);
  // as in transformers, angles and their cosines are float32 whatever the activations are
  const at::Tensor angles =
      at::outer(positions_of(document_begin).to(at::kFloat), at::tensor(rope_frequencies(config)));
  const at::Tensor cos = angles.cos().to(input_TD.scalar_type()), sin = angles.sin().to(input_TD.scalar_type());
  const at::Tensor rotated =
      at::cat({rope(q, cos, sin), rope(keys, cos, sin), heads.narrow(1, h + g, g)}, 1).view({tokens, -1});
  const AttentionShape shape{h, g, k, config.sliding_window[layer]};
  const at::Tensor middle = input_TD + project(attention(shape, rotated, document_begin), p.o_DO, p.o_bias_D);
  const at::Tensor gate_up = project(rms_norm(middle, p.post_norm_D, epsilon), p.gate_up_ED, {});
  return middle + project(swiglu(gate_up), p.down_DF, {});
}

}  // namespace plumb::reference
