#include "lib/nn/block_reference.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "lib/kernels/reference.hpp"
#include "lib/nn/experts_reference.hpp"
#include "lib/nn/rope.hpp"

namespace plumb::reference {

namespace {

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

at::Tensor attention(const AttentionShape& shape, const at::Tensor& qkv, std::span<const int64_t> document_begin,
                     const at::Tensor& sinks_H) {
  const int64_t h = shape.num_heads, g = shape.num_kv_heads, k = shape.head_dim, tokens = qkv.size(0);
  const at::Tensor heads = qkv.view({tokens, h + 2 * g, k}).transpose(0, 1);
  const at::Tensor q = heads.narrow(0, 0, h);
  const at::Tensor keys = heads.narrow(0, h, g).repeat_interleave(h / g, 0);  // head i reads key head i / (H / G)
  const at::Tensor values = heads.narrow(0, h + g, g).repeat_interleave(h / g, 0);
  const at::Tensor hidden = visible_tokens(document_begin, shape.sliding_window).logical_not();
  at::Tensor scores = at::matmul(q, keys.transpose(1, 2)) * shape.scale();
  if (shape.score_cap > 0) scores = at::tanh(scores / shape.score_cap) * shape.score_cap;
  scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  if (sinks_H.defined()) scores = at::cat({scores, sinks_H.view({h, 1, 1}).expand({h, tokens, 1})}, -1);
  const at::Tensor probabilities = at::softmax(scores, -1).narrow(-1, 0, tokens);
  return at::matmul(probabilities, values).transpose(0, 1).reshape({tokens, h * k});
}

at::Tensor norm(const at::Tensor& x, const NormConfig& config, const at::Tensor& weight, const at::Tensor& bias) {
  if (!weight.defined()) return x;
  if (config.kind == NormKind::kRms) return rms_norm(x, weight + config.weight_offset, config.epsilon);
  const at::Tensor centered = x - x.mean(-1, true);
  const at::Tensor y = rms_norm(centered, weight, config.epsilon);
  return bias.defined() ? y + bias : y;
}

namespace {

/// Rotates the first heads of [T, heads, K], each in its first elements.
at::Tensor rotate(const at::Tensor& x, const RopeConfig& config, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t rotated = 2 * cos.size(1);
  at::Tensor part = x.narrow(2, 0, rotated);
  // neighbors become halves and back
  if (config.is_interleaved) part = part.unflatten(2, {rotated / 2, 2}).transpose(2, 3).flatten(2);
  part = rope(part, cos, sin);
  if (config.is_interleaved) part = part.unflatten(2, {2, rotated / 2}).transpose(2, 3).flatten(2);
  return at::cat({part, x.narrow(2, rotated, x.size(2) - rotated)}, 2);
}

at::Tensor rotate_documents(const ModelConfig& config, const RopeConfig& rope_config, const at::Tensor& heads,
                            std::span<const int64_t> document_begin) {
  std::vector<at::Tensor> documents;
  for (size_t i = 0; i + 1 < document_begin.size(); ++i) {
    const int64_t length = document_begin[i + 1] - document_begin[i];
    // as in transformers, angles and their cosines are float32 whatever the activations are
    const at::Tensor angles =
        at::outer(at::arange(length).to(at::kFloat), at::tensor(rope_frequencies(rope_config, config, length)));
    const double amplitude = rope_amplitude(rope_config);
    const at::Tensor cos = angles.cos().to(heads.scalar_type()) * amplitude;
    const at::Tensor sin = angles.sin().to(heads.scalar_type()) * amplitude;
    documents.push_back(rotate(heads.narrow(0, document_begin[i], length), rope_config, cos, sin));
  }
  return at::cat(documents);
}

at::Tensor attend(const ModelConfig& config, int64_t layer, const BlockTensors& p, const at::Tensor& x_TD,
                  std::span<const int64_t> document_begin) {
  const int64_t tokens = x_TD.size(0), h = config.num_heads, g = config.num_kv_heads, k = config.head_dim;
  const at::Tensor qkv = project(x_TD, p.qkv_QD, p.qkv_bias_Q);
  at::Tensor q = qkv.narrow(1, 0, h * k), keys = qkv.narrow(1, h * k, g * k);
  const at::Tensor values = qkv.narrow(1, (h + g) * k, g * k);
  if (config.qk_norm == QkNorm::kAllHeads)
    q = norm(q, config.norm, p.q_norm_K, {}), keys = norm(keys, config.norm, p.k_norm_K, {});
  q = q.reshape({tokens, h, k}), keys = keys.reshape({tokens, g, k});
  if (config.qk_norm == QkNorm::kHead)
    q = norm(q, config.norm, p.q_norm_K, {}), keys = norm(keys, config.norm, p.k_norm_K, {});
  if (const RopeConfig* rope_config = config.rope_of(layer)) {
    q = rotate_documents(config, *rope_config, q, document_begin);
    keys = rotate_documents(config, *rope_config, keys, document_begin);
  }
  const at::Tensor rotated = at::cat({q, keys, values.reshape({tokens, g, k})}, 1).view({tokens, -1});
  const at::Tensor attended = attention(attention_shape(config, layer, {}), rotated, document_begin, p.sinks_H);
  return project(attended, p.o_DO, p.o_bias_D);
}

at::Tensor feed_forward(const ModelConfig& config, const BlockTensors& p, const at::Tensor& x_TD) {
  if (p.experts.router_ED.defined()) {
    const ExpertConfig experts = expert_config(config.mixture);
    const auto chosen = choose_experts(experts.router, router_logits(p.experts, x_TD), x_TD.size(0));
    return reference::experts(experts, p.experts, x_TD, chosen);
  }
  const at::Tensor gate_up = project(x_TD, p.gate_up_ED, p.gate_up_bias_E);
  return project(plumb::reference::feed_forward(config.feed_forward, gate_up), p.down_DF, p.down_bias_D);
}

}  // namespace

at::Tensor feed_forward(FeedForward kind, const at::Tensor& gate_up) {
  if (kind == FeedForward::kSwiGlu) return swiglu(gate_up);
  if (kind == FeedForward::kGelu) return at::gelu(gate_up, "tanh");
  const auto halves = gate_up.chunk(2, -1);
  return at::gelu(halves[0], "tanh") * halves[1];
}

at::Tensor block(const ModelConfig& config, int64_t layer, const BlockTensors& p, const at::Tensor& input_TD,
                 std::span<const int64_t> document_begin) {
  const auto normed = [&](BlockNorm which, const at::Tensor& x) {
    return norm(x, config.norm, p.norms[which].weight_D, p.norms[which].bias_D);
  };
  const double m = config.residual_multiplier;
  const at::Tensor h = normed(BlockNorm::kBeforeAttention, input_TD);
  const at::Tensor attended = attend(config, layer, p, h, document_begin);
  if (config.norm_placement == NormPlacement::kParallel) return input_TD + attended + feed_forward(config, p, h);
  const at::Tensor middle = input_TD + normed(BlockNorm::kAfterAttention, attended) * m;
  const at::Tensor out = feed_forward(config, p, normed(BlockNorm::kBeforeFeedForward, middle));
  return middle + normed(BlockNorm::kAfterFeedForward, out) * m;
}

}  // namespace plumb::reference
