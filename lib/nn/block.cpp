#include "lib/nn/block.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/base/random.hpp"
#include "lib/nn/matmul.hpp"
#include "lib/nn/tensor_ops.hpp"

namespace plumb {

namespace {

/// Does nothing if the gradient is undefined, because the parameter is frozen.
void write_gradient(const at::Tensor& gradient, const at::Tensor& value, bool adds) {
  if (!gradient.defined()) return;
  if (adds) {
    gradient.add_(value);
  } else {
    gradient.copy_(value);
  }
}

Norm norm_of(const BlockContext& context, const BlockParameters& p, BlockNorm which) {
  return {context.config.norm, p.norms[which].weight_D, p.norms[which].bias_D};
}

bool has_norm(const BlockParameters& p, BlockNorm which) { return p.norms[which].weight_D.defined(); }

void rotate(const BlockContext& context, int64_t layer, const at::Tensor& qkv, float direction) {
  const Rotation* rotation = context.rotations.of_layer(context.config, layer);
  if (rotation == nullptr) return;
  ops_of(qkv).rope(qkv, *rotation, context.config.num_heads + context.config.num_kv_heads, direction);
}

constexpr int64_t kStreamsOfLayer = 4;  // kQkv to kDown; those of experts derive theirs from that of kGateUp

/// The dropout of one product of one layer: every product has a mask of its own.
Dropout dropout_of(const BlockContext& context, int64_t layer, Product product) {
  Dropout dropout = context.dropout;
  dropout.stream = random_bits(dropout.seed, dropout.stream,
                               static_cast<uint64_t>(layer * kStreamsOfLayer + static_cast<int64_t>(product)));
  return dropout;
}

/// The rows that the block computes after attention; undefined means all.
at::Tensor computed_rows(const BlockContext& context, int64_t layer) {
  return layer + 1 == context.config.num_layers ? context.read_rows : at::Tensor();
}

/// The input of a layer's experts: the rows that the block computes after attention.
ExpertInput expert_input(const BlockContext& context, int64_t layer, const at::Tensor& x_RD) {
  const at::Tensor rows = computed_rows(context, layer);
  ExpertInput input{x_RD, rows.defined() ? std::min(context.num_tokens, rows.size(0)) : context.num_tokens};
  input.dropout = dropout_of(context, layer, Product::kGateUp);
  return input;
}

/// The steps of the forward pass, which save what the backward pass needs.
class BlockForward {
 public:
  BlockForward(const BlockContext& context, int64_t layer, const BlockParameters& parameters, BlockActivations& saved)
      : context_(context), config_(context.config), layer_(layer), p_(parameters), saved_(saved) {}

  /// The block up to the input of its feed-forward network or experts, which is returned.
  at::Tensor to_feed_forward(const at::Tensor& input_TD) {
    saved_.input_TD = input_TD;
    const at::Tensor rows = computed_rows(context_, layer_);
    at::Tensor normed_TD = normed(BlockNorm::kBeforeAttention, input_TD);
    const bool is_parallel = config_.norm_placement == NormPlacement::kParallel;
    at::Tensor feed_forward_input_RD = is_parallel ? gather_rows(normed_TD, rows) : at::Tensor();
    at::Tensor attention_out_RD = attention(std::move(normed_TD), rows);
    if (has_norm(p_, BlockNorm::kAfterAttention)) {
      saved_.attention_out_RD = attention_out_RD;
      attention_out_RD = normed(BlockNorm::kAfterAttention, attention_out_RD);
    }
    const at::Tensor residual_RD = gather_rows(input_TD, rows);
    const at::Tensor branch_RD = scaled(attention_out_RD);
    if (has_norm(p_, BlockNorm::kBeforeFeedForward)) {
      saved_.middle_RD = at::empty_like(residual_RD);
      feed_forward_input_RD = at::empty_like(residual_RD);
      at::Tensor& stats = saved_.norm_stats[BlockNorm::kBeforeFeedForward] =
          empty_norm_stats(residual_RD, config_.norm);
      ops_of(input_TD).add_normalize(residual_RD, branch_RD, saved_.middle_RD,
                                     norm_of(context_, p_, BlockNorm::kBeforeFeedForward), feed_forward_input_RD,
                                     stats);
    } else {
      saved_.middle_RD = residual_RD + branch_RD;
      if (!is_parallel) feed_forward_input_RD = saved_.middle_RD;
    }
    return feed_forward_input_RD;
  }

  /// Feed-forward network or experts, and residual: the block's output rows.
  at::Tensor output(const at::Tensor& x_RD) {
    if (p_.experts)
      return experts_forward(expert_config(config_.mixture), *p_.experts, expert_input(context_, layer_, x_RD),
                             saved_.middle_RD, saved_.experts);
    saved_.gate_up_RE = project(Product::kGateUp, x_RD);
    const at::Tensor hidden_RF = feed_forward_hidden();
    const bool has_out_norm = has_norm(p_, BlockNorm::kAfterFeedForward);
    if (!has_out_norm && config_.residual_multiplier == 1) return project(Product::kDown, hidden_RF, saved_.middle_RD);
    at::Tensor out_RD = project(Product::kDown, hidden_RF);
    if (has_out_norm) {
      saved_.feed_forward_out_RD = out_RD;
      out_RD = normed(BlockNorm::kAfterFeedForward, out_RD);
    }
    return scaled(out_RD) + saved_.middle_RD;
  }

  /// Fills what backward needs of the feed-forward network or experts.
  void recompute(const at::Tensor& x_RD) {
    if (p_.experts)
      return experts_recompute(expert_config(config_.mixture), *p_.experts, expert_input(context_, layer_, x_RD),
                               saved_.experts);
    if (has_norm(p_, BlockNorm::kAfterFeedForward)) {
      output(x_RD);
      return;
    }
    saved_.gate_up_RE = project(Product::kGateUp, x_RD);
    if (!p_[Product::kDown].lora.modules.empty())
      linear_recompute(p_[Product::kDown], feed_forward_hidden(), dropout_of(context_, layer_, Product::kDown),
                       saved_.linear[Product::kDown]);
  }

 private:
  at::Tensor feed_forward_hidden() const {
    return ops_of(saved_.gate_up_RE).feed_forward(config_.feed_forward, saved_.gate_up_RE);
  }

  /// x itself if the family has no such norm.
  at::Tensor normed(BlockNorm which, const at::Tensor& x) {
    if (!has_norm(p_, which)) return x;
    Normed result = normalize(x, norm_of(context_, p_, which));
    saved_.norm_stats[which] = result.stats;
    return result.y;
  }

  at::Tensor scaled(const at::Tensor& branch) const {
    return config_.residual_multiplier == 1 ? branch : branch * config_.residual_multiplier;
  }

  at::Tensor project(Product product, const at::Tensor& x, const at::Tensor& residual = {}) {
    return linear_forward(p_[product], x, residual, dropout_of(context_, layer_, product), saved_.linear[product]);
  }

  /// From the input of the query, key and value products to the output of the attention's last product; after
  /// attention only for the rows that are read.
  at::Tensor attention(at::Tensor x_TD, const at::Tensor& rows) {
    saved_.qkv_TQ = project(Product::kQkv, x_TD);
    const int64_t num_rows = x_TD.size(0);
    const at::TensorOptions options = x_TD.options();
    x_TD.reset();  // frees the output of a norm before attention
    if (config_.qk_norm != QkNorm::kNone) {
      const HeadNorms norms = head_norms(config_, p_);
      saved_.qkv_before_norm_TQ = saved_.qkv_TQ;
      saved_.qkv_TQ = saved_.qkv_before_norm_TQ.clone();
      saved_.head_rstd = at::empty({num_rows, norms.num_queries() + norms.num_keys()}, options.dtype(at::kFloat));
      ops_of(saved_.qkv_TQ).norm_heads(saved_.qkv_before_norm_TQ, norms, saved_.qkv_TQ, saved_.head_rstd);
    }
    rotate(context_, layer_, saved_.qkv_TQ, 1.0f);
    const at::Tensor attended_TO = at::empty({num_rows, config_.num_heads * config_.head_dim}, options);
    attention_forward(attention_shape(config_, layer_, p_.sinks_H), saved_.qkv_TQ, context_.documents, attended_TO,
                      saved_.attention);
    saved_.attended_RO = gather_rows(attended_TO, rows);
    return project(Product::kO, saved_.attended_RO);
  }

  const BlockContext& context_;
  const ModelConfig& config_;
  int64_t layer_;
  const BlockParameters& p_;
  BlockActivations& saved_;
};

/// The backward pass of one block: the steps of the forward pass in reverse order.
class BlockBackward {
 public:
  BlockBackward(const BlockContext& context, int64_t layer, const BlockParameters& parameters, BlockActivations& saved,
                const BlockGradients& gradients)
      : context_(context),
        config_(context.config),
        layer_(layer),
        p_(parameters),
        saved_(saved),
        gradients_(gradients) {}

  /// Returns the gradient of the residual stream between attention and feed-forward, [R, D], from that of the output
  /// rows.
  at::Tensor feed_forward(const at::Tensor& dout_RD, const at::Tensor& rows) {
    if (p_.experts) return experts(dout_RD);
    const at::Tensor dbranch_RD = branch_gradient(BlockNorm::kAfterFeedForward, saved_.feed_forward_out_RD, dout_RD);
    LinearInputGradient down = input_gradient(Product::kDown, dbranch_RD, true);
    // overwrites gate and up with their gradients, and recomputes what follows them, the input of `down`
    at::Tensor hidden_RF = ops_of(dout_RD).feed_forward_backward(config_.feed_forward, down.dx_TI, saved_.gate_up_RE);
    down.dx_TI.reset();
    add_matrix_gradients(Product::kDown, dbranch_RD, down, gradients_.base.down_DF, [&] { return hidden_RF; });
    add_bias_gradient(gradients_.base.down_bias_D, dbranch_RD);
    hidden_RF.reset();
    const at::Tensor& dgate_up = saved_.gate_up_RE;
    const LinearInputGradient gate_up = input_gradient(Product::kGateUp, dgate_up, true);
    add_matrix_gradients(Product::kGateUp, dgate_up, gate_up, gradients_.base.gate_up_ED,
                         [&] { return feed_forward_input(rows); });
    add_bias_gradient(gradients_.base.gate_up_bias_E, dgate_up);
    if (config_.norm_placement == NormPlacement::kParallel) {
      dnormed_RD_ = gate_up.dx_TI;
      return dout_RD;
    }
    return norm_backward(BlockNorm::kBeforeFeedForward, gate_up.dx_TI, saved_.middle_RD, dout_RD);
  }

  /// Returns the gradient of the block's input, [T, D], from that of the middle; undefined if not needed.
  at::Tensor attention(const at::Tensor& dmiddle_RD, const at::Tensor& rows, int64_t num_rows) {
    const BlockTensors& base = gradients_.base;
    const at::Tensor dbranch_RD = branch_gradient(BlockNorm::kAfterAttention, saved_.attention_out_RD, dmiddle_RD);
    const LinearInputGradient o = input_gradient(Product::kO, dbranch_RD, true);
    add_matrix_gradients(Product::kO, dbranch_RD, o, base.o_DO, [&] { return saved_.attended_RO; });
    add_bias_gradient(base.o_bias_D, dbranch_RD);
    const bool adapts_qkv = !p_[Product::kQkv].lora.modules.empty();
    if (!gradients_.has_base && !gradients_.needs_input && !adapts_qkv) return {};
    const at::Tensor dqkv = at::empty_like(saved_.qkv_TQ);
    const at::Tensor dsinks_H = config_.has_sinks ? at::zeros_like(p_.sinks_H) : at::Tensor();
    attention_backward(attention_shape(config_, layer_, p_.sinks_H), saved_.qkv_TQ, context_.documents,
                       saved_.attention, scatter_rows(o.dx_TI, rows, num_rows), dqkv, dsinks_H);
    write_gradient(base.sinks_H, dsinks_H, gradients_.adds_base);
    rotate(context_, layer_, dqkv, -1.0f);
    if (config_.qk_norm != QkNorm::kNone) head_norms_backward(dqkv);
    const LinearInputGradient qkv = input_gradient(Product::kQkv, dqkv, gradients_.needs_input);
    add_matrix_gradients(Product::kQkv, dqkv, qkv, base.qkv_QD,
                         [&] { return recomputed(BlockNorm::kBeforeAttention, saved_.input_TD); });
    add_bias_gradient(base.qkv_bias_Q, dqkv);
    if (!gradients_.needs_input) return {};
    if (dnormed_RD_.defined()) qkv.dx_TI.add_(scatter_rows(dnormed_RD_, rows, num_rows));
    return norm_backward(BlockNorm::kBeforeAttention, qkv.dx_TI, saved_.input_TD,
                         scatter_rows(dmiddle_RD, rows, num_rows));
  }

 private:
  /// As feed_forward(), of a mixture of experts.
  at::Tensor experts(const at::Tensor& dout_RD) {
    const at::Tensor x_RD = recomputed(BlockNorm::kBeforeFeedForward, saved_.middle_RD);
    ExpertGradients gradients(p_.experts->experts.size());
    if (gradients_.has_base) gradients = ExpertGradients(gradients_.base.experts, gradients_.adds_base);
    for (size_t e = 0; e < gradients_.expert_lora.size(); ++e) {
      gradients.experts[e].gate_up.lora = gradients_.expert_lora[e].gate_up;
      gradients.experts[e].down.lora = gradients_.expert_lora[e].down;
    }
    gradients.shared.gate_up.lora = gradients_.lora[Product::kSharedGateUp];
    gradients.shared.down.lora = gradients_.lora[Product::kSharedDown];
    const at::Tensor dx_RD =
        experts_backward(expert_config(config_.mixture), *p_.experts, expert_input(context_, layer_, x_RD),
                         saved_.experts, dout_RD, gradients, context_.router_gradient_E);
    return norm_backward(BlockNorm::kBeforeFeedForward, dx_RD, saved_.middle_RD, dout_RD);
  }

  LinearInputGradient input_gradient(Product product, const at::Tensor& dy, bool needs_dx) const {
    return linear_backward_input(p_[product], dy, saved_.linear[product], dropout_of(context_, layer_, product),
                                 needs_dx, &gradients_.lora[product]);
  }

  /// The output of a norm, or its input if the family has no such norm.
  at::Tensor recomputed(BlockNorm which, const at::Tensor& x) const {
    if (!has_norm(p_, which)) return x;
    return ops_of(x).recompute_norm({x, saved_.norm_stats[which]}, norm_of(context_, p_, which));
  }

  at::Tensor feed_forward_input(const at::Tensor& rows) const {
    if (config_.norm_placement != NormPlacement::kParallel)
      return recomputed(BlockNorm::kBeforeFeedForward, saved_.middle_RD);
    return gather_rows(recomputed(BlockNorm::kBeforeAttention, saved_.input_TD), rows);
  }

  /// Returns carry + the gradient of the norm's input; writes or adds the gradients of its parameters.
  at::Tensor norm_backward(BlockNorm which, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& carry) const {
    if (!has_norm(p_, which)) return carry.defined() ? carry + dy : dy;
    const NormTensors& gradients = gradients_.base.norms[which];
    const at::Tensor dweight = at::zeros({x.size(1)}, dy.options().dtype(at::kFloat));
    const at::Tensor dbias = config_.norm.has_bias ? at::zeros_like(dweight) : at::Tensor();
    at::Tensor dx = ops_of(dy).norm_backward(dy, {x, saved_.norm_stats[which]}, norm_of(context_, p_, which), carry,
                                             dweight, dbias);
    write_gradient(gradients.weight_D, dweight, gradients_.adds_base);
    if (dbias.defined()) write_gradient(gradients.bias_D, dbias, gradients_.adds_base);
    return dx;
  }

  /// The gradient of a branch before its norm and multiplier, from that of the residual stream.
  at::Tensor branch_gradient(BlockNorm which, const at::Tensor& branch_out, const at::Tensor& dresidual) const {
    const double multiplier = config_.residual_multiplier;
    const at::Tensor dbranch = multiplier == 1 ? dresidual : dresidual * multiplier;
    return has_norm(p_, which) ? norm_backward(which, dbranch, branch_out, {}) : dbranch;
  }

  /// Computes the gradients of a product's matrices. input() recomputes the product's input, and is called only if
  /// needed.
  template <class Input>
  void add_matrix_gradients(Product product, const at::Tensor& dy, const LinearInputGradient& backward,
                            const at::Tensor& dweight, const Input& input) const {
    const LoraGroup& lora = gradients_.lora[product];
    if (!gradients_.has_base && lora.modules.empty()) return;
    const at::Tensor x = input();
    if (gradients_.adds_base) {
      matmul_accumulate(dweight, dy.t(), x);
    } else if (gradients_.has_base) {
      matmul_into(dweight, dy.t(), x);
    }
    if (!lora.modules.empty()) linear_backward_a(backward, x, dropout_of(context_, layer_, product), lora);
  }

  void add_bias_gradient(const at::Tensor& dbias, const at::Tensor& dy) const {
    if (dbias.defined()) write_gradient(dbias, dy.sum(0, false, at::kFloat), gradients_.adds_base);
  }

  /// Replaces dqkv after the norms of queries and keys by the gradient before them.
  void head_norms_backward(const at::Tensor& dqkv) const {
    const at::Tensor dq_norm = at::zeros({p_.q_norm_K.size(0)}, dqkv.options().dtype(at::kFloat));
    const at::Tensor dk_norm = at::zeros({p_.k_norm_K.size(0)}, dq_norm.options());
    ops_of(dqkv).norm_heads_backward(saved_.qkv_before_norm_TQ, head_norms(config_, p_), saved_.head_rstd, dqkv,
                                     dq_norm, dk_norm);
    write_gradient(gradients_.base.q_norm_K, dq_norm, gradients_.adds_base);
    write_gradient(gradients_.base.k_norm_K, dk_norm, gradients_.adds_base);
  }

  const BlockContext& context_;
  const ModelConfig& config_;
  int64_t layer_;
  const BlockParameters& p_;
  BlockActivations& saved_;
  const BlockGradients& gradients_;
  at::Tensor dnormed_RD_;  // parallel: the feed-forward network's part of the gradient of its and attention's input
};

}  // namespace

at::Tensor block_forward(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                         const at::Tensor& input_TD, BlockActivations& saved) {
  BlockForward forward(context, layer, parameters, saved);
  const at::Tensor x_RD = forward.to_feed_forward(input_TD);
  return scatter_rows(forward.output(x_RD), computed_rows(context, layer), input_TD.size(0));
}

void block_recompute(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                     const at::Tensor& input_TD, BlockActivations& saved) {
  BlockForward forward(context, layer, parameters, saved);
  forward.recompute(forward.to_feed_forward(input_TD));
}

at::Tensor block_backward(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                          BlockActivations& saved, const at::Tensor& dout_TD, const BlockGradients& gradients) {
  BlockBackward backward(context, layer, parameters, saved, gradients);
  const at::Tensor rows = computed_rows(context, layer);
  const at::Tensor dmiddle_RD = backward.feed_forward(gather_rows(dout_TD, rows), rows);
  at::Tensor dinput_TD = backward.attention(dmiddle_RD, rows, dout_TD.size(0));
  saved = {};
  return dinput_TD;
}

}  // namespace plumb
