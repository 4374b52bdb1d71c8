#include "lib/nn/block.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "lib/base/random.hpp"
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

/// Returns carry + the gradient of the norm's input; writes or adds the weight's gradient.
at::Tensor norm_backward(const at::Tensor& dy, const NormInput& input, const at::Tensor& carry,
                         const at::Tensor& dweight, bool adds) {
  const at::Tensor sum = at::zeros({input.x_RC.size(1)}, dy.options().dtype(at::kFloat));
  at::Tensor dx = ops_of(dy).rms_norm_backward(dy, input, carry, sum);
  write_gradient(dweight, sum, adds);
  return dx;
}

AttentionShape attention_shape(const ModelConfig& config, int64_t layer) {
  return {config.num_heads, config.num_kv_heads, config.head_dim, config.sliding_window[layer]};
}

void rotate(const BlockContext& context, const at::Tensor& qkv, float direction) {
  ops_of(qkv).rope(qkv, context.rotation(), context.config.num_heads + context.config.num_kv_heads, direction);
}

HeadNorms head_norms(const ModelConfig& config, const BlockParameters& p) {
  return {p.q_norm_K, p.k_norm_K, config.num_heads, config.num_kv_heads, config.rms_norm_eps};
}

/// The dropout of one product of one layer: every product has a mask of its own.
Dropout dropout_of(const BlockContext& context, int64_t layer, Product product) {
  Dropout dropout = context.dropout;
  dropout.stream = random_bits(dropout.seed, dropout.stream,
                               static_cast<uint64_t>(layer * kNumProducts + static_cast<int64_t>(product)));
  return dropout;
}

at::Tensor project(const BlockContext& context, int64_t layer, const BlockParameters& p, Product product,
                   const at::Tensor& x, BlockActivations& saved, const at::Tensor& residual = {}) {
  return linear_forward(p[product], x, residual, dropout_of(context, layer, product), saved.linear[product]);
}

/// The rows that the block computes after attention; undefined means all.
at::Tensor computed_rows(const BlockContext& context, int64_t layer) {
  return layer + 1 == context.config.num_layers ? context.read_rows : at::Tensor();
}

/// Computes all saved activations: the block up to the input of its last product.
void forward_to_gate_up(const BlockContext& context, int64_t layer, const BlockParameters& p, const at::Tensor& input,
                        BlockActivations& saved) {
  const ModelConfig& config = context.config;
  const TensorOps& ops = ops_of(input);
  saved.input_TD = input;
  // 1) norm, then queries, keys and values
  Normed normed = rms_norm(input, p.input_norm_D, config.rms_norm_eps);
  saved.input_rstd_T = normed.rstd_R;
  saved.qkv_TQ = project(context, layer, p, Product::kQkv, normed.y, saved);
  normed.y.reset();
  // 2) norm of each head (Qwen3) and rotary positions
  if (config.has_qk_norm) {
    saved.qkv_before_norm_TQ = saved.qkv_TQ;
    saved.qkv_TQ = saved.qkv_before_norm_TQ.clone();
    saved.head_rstd =
        at::empty({input.size(0), config.num_heads + config.num_kv_heads}, input.options().dtype(at::kFloat));
    ops.norm_heads(saved.qkv_before_norm_TQ, head_norms(config, p), saved.qkv_TQ, saved.head_rstd);
  }
  rotate(context, saved.qkv_TQ, 1.0f);
  // 3) attention; after it only the rows that are read
  const at::Tensor attended_TO = at::empty({input.size(0), config.num_heads * config.head_dim}, input.options());
  attention_forward(attention_shape(config, layer), saved.qkv_TQ, context.documents, attended_TO, saved.attention);
  const at::Tensor rows = computed_rows(context, layer);
  saved.attended_RO = gather_rows(attended_TO, rows);
  // 4) output projection, residual, norm
  const at::Tensor residual = gather_rows(input, rows);
  const at::Tensor attention_out = project(context, layer, p, Product::kO, saved.attended_RO, saved);
  saved.middle_RD = at::empty_like(residual);
  saved.middle_rstd_R = at::empty({residual.size(0)}, residual.options().dtype(at::kFloat));
  const at::Tensor normed_RD = at::empty_like(residual);
  ops.add_rms_norm(residual, attention_out, saved.middle_RD, p.post_norm_D, config.rms_norm_eps, normed_RD,
                   saved.middle_rstd_R);
  // 5) gate and up
  saved.gate_up_RE = project(context, layer, p, Product::kGateUp, normed_RD, saved);
}

/// The backward pass of one block: the steps of the forward pass in reverse order.
class BlockBackward {
 public:
  BlockBackward(const BlockContext& context, int64_t layer, const BlockParameters& parameters, BlockActivations& saved,
                const BlockGradients& gradients)
      : context_(context), layer_(layer), p_(parameters), saved_(saved), gradients_(gradients) {}

  /// Returns the gradient of the residual stream between attention and feed-forward, [R, D], from that of the output
  /// rows.
  at::Tensor feed_forward(const at::Tensor& dout_RD) {
    LinearInputGradient down = input_gradient(Product::kDown, dout_RD, true);
    // overwrites gate and up with their gradients, and recomputes their product, which is the input of `down`
    at::Tensor hidden_RF = ops_of(dout_RD).swiglu_backward(down.dx_TI, saved_.gate_up_RE);
    down.dx_TI.reset();
    add_matrix_gradients(Product::kDown, dout_RD, down, gradients_.base.down_DF, [&] { return hidden_RF; });
    hidden_RF.reset();
    const at::Tensor& dgate_up = saved_.gate_up_RE;
    const NormInput middle = {saved_.middle_RD, saved_.middle_rstd_R, p_.post_norm_D};
    const LinearInputGradient gate_up = input_gradient(Product::kGateUp, dgate_up, true);
    add_matrix_gradients(Product::kGateUp, dgate_up, gate_up, gradients_.base.gate_up_ED,
                         [&] { return ops_of(dout_RD).recompute_rms_norm(middle); });
    return norm_backward(gate_up.dx_TI, middle, dout_RD, gradients_.base.post_norm_D, gradients_.adds_base);
  }

  /// Returns the gradient of the block's input, [T, D], from that of the middle; undefined if not needed.
  at::Tensor attention(const at::Tensor& dmiddle_RD, const at::Tensor& rows, int64_t num_rows) {
    const TensorOps& ops = ops_of(dmiddle_RD);
    const BlockTensors& base = gradients_.base;
    const LinearInputGradient o = input_gradient(Product::kO, dmiddle_RD, true);
    add_matrix_gradients(Product::kO, dmiddle_RD, o, base.o_DO, [&] { return saved_.attended_RO; });
    add_bias_gradient(base.o_bias_D, dmiddle_RD);
    const bool adapts_qkv = !p_[Product::kQkv].lora.modules.empty();
    if (!gradients_.has_base && !gradients_.needs_input && !adapts_qkv) return {};
    const at::Tensor dqkv = at::empty_like(saved_.qkv_TQ);
    attention_backward(attention_shape(context_.config, layer_), saved_.qkv_TQ, context_.documents, saved_.attention,
                       scatter_rows(o.dx_TI, rows, num_rows), dqkv);
    rotate(context_, dqkv, -1.0f);
    if (context_.config.has_qk_norm) head_norms_backward(dqkv);
    const NormInput input = {saved_.input_TD, saved_.input_rstd_T, p_.input_norm_D};
    const LinearInputGradient qkv = input_gradient(Product::kQkv, dqkv, gradients_.needs_input);
    add_matrix_gradients(Product::kQkv, dqkv, qkv, base.qkv_QD, [&] { return ops.recompute_rms_norm(input); });
    add_bias_gradient(base.qkv_bias_Q, dqkv);
    if (!gradients_.needs_input) return {};
    return norm_backward(qkv.dx_TI, input, scatter_rows(dmiddle_RD, rows, num_rows), base.input_norm_D,
                         gradients_.adds_base);
  }

 private:
  LinearInputGradient input_gradient(Product product, const at::Tensor& dy, bool needs_dx) const {
    return linear_backward_input(p_[product], dy, saved_.linear[product], dropout_of(context_, layer_, product),
                                 needs_dx, &gradients_.lora[product]);
  }

  /// Computes the gradients of a product's matrices. input() recomputes the product's input, and is called only if
  /// needed.
  template <class Input>
  void add_matrix_gradients(Product product, const at::Tensor& dy, const LinearInputGradient& backward,
                            const at::Tensor& dweight, const Input& input) const {
    const LoraGroup& lora = gradients_.lora[product];
    if (!gradients_.has_base && lora.modules.empty()) return;
    const at::Tensor x = input();
    at::Tensor target = dweight;
    if (gradients_.adds_base) {
      target.addmm_(dy.t(), x);
    } else if (gradients_.has_base) {
      at::mm_out(target, dy.t(), x);
    }
    if (!lora.modules.empty()) linear_backward_a(backward, x, dropout_of(context_, layer_, product), lora);
  }

  void add_bias_gradient(const at::Tensor& dbias, const at::Tensor& dy) const {
    if (dbias.defined()) write_gradient(dbias, dy.sum(0, false, at::kFloat), gradients_.adds_base);
  }

  /// Replaces dqkv after the head norms by the gradient before them.
  void head_norms_backward(const at::Tensor& dqkv) const {
    const at::Tensor dq_norm = at::zeros({p_.q_norm_K.size(0)}, dqkv.options().dtype(at::kFloat));
    const at::Tensor dk_norm = at::zeros_like(dq_norm);
    ops_of(dqkv).norm_heads_backward(saved_.qkv_before_norm_TQ, head_norms(context_.config, p_), saved_.head_rstd, dqkv,
                                     dq_norm, dk_norm);
    write_gradient(gradients_.base.q_norm_K, dq_norm, gradients_.adds_base);
    write_gradient(gradients_.base.k_norm_K, dk_norm, gradients_.adds_base);
  }

  const BlockContext& context_;
  int64_t layer_;
  const BlockParameters& p_;
  BlockActivations& saved_;
  const BlockGradients& gradients_;
};

}  // namespace

BlockContext::BlockContext(const ModelConfig& model_config, RopeTable& rope, const Documents& batch_documents,
                           at::Tensor rows_read)
    : config(model_config),
      documents(batch_documents),
      positions(rope_positions(batch_documents)),
      read_rows(std::move(rows_read)) {
  rope.cover(last_position(batch_documents) + 1);
  cos = rope.cos();
  sin = rope.sin();
}

BlockParameters::BlockParameters(const BlockTensors& t)
    : input_norm_D(t.input_norm_D), q_norm_K(t.q_norm_K), k_norm_K(t.k_norm_K), post_norm_D(t.post_norm_D) {
  linear = {Linear{t.qkv_QD, t.qkv_bias_Q, {}, {}}, Linear{t.o_DO, t.o_bias_D, {}, {}},
            Linear{t.gate_up_ED, {}, {}, {}}, Linear{t.down_DF, {}, {}, {}}};
}

BlockTensors block_tensors(const UnitLayout& unit, const at::Tensor& flat) {
  BlockTensors t;
  // a fused matrix starts at its first parameter and spans the rows of all of them
  const auto view = [&](int64_t offset, const std::vector<int64_t>& shape) {
    int64_t n = 1;
    for (int64_t size : shape) n *= size;
    return flat.narrow(0, offset, n).view(shape);
  };
  int64_t kv_rows = 0;
  for (const Parameter& p : unit.parameters)
    if (p.kind == ParameterKind::kK || p.kind == ParameterKind::kKBias) kv_rows = p.shape[0];
  for (const Parameter& p : unit.parameters) {
    switch (p.kind) {
      case ParameterKind::kInputNorm:
        t.input_norm_D = view(p.offset, p.shape);
        break;
      case ParameterKind::kQ:
        t.qkv_QD = view(p.offset, {p.shape[0] + 2 * kv_rows, p.shape[1]});
        break;
      case ParameterKind::kQBias:
        t.qkv_bias_Q = view(p.offset, {p.shape[0] + 2 * kv_rows});
        break;
      case ParameterKind::kQNorm:
        t.q_norm_K = view(p.offset, p.shape);
        break;
      case ParameterKind::kKNorm:
        t.k_norm_K = view(p.offset, p.shape);
        break;
      case ParameterKind::kO:
        t.o_DO = view(p.offset, p.shape);
        break;
      case ParameterKind::kOBias:
        t.o_bias_D = view(p.offset, p.shape);
        break;
      case ParameterKind::kPostNorm:
        t.post_norm_D = view(p.offset, p.shape);
        break;
      case ParameterKind::kGate:
        t.gate_up_ED = view(p.offset, {2 * p.shape[0], p.shape[1]});
        break;
      case ParameterKind::kDown:
        t.down_DF = view(p.offset, p.shape);
        break;
      default:
        break;
    }
  }
  return t;
}

at::Tensor block_forward(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                         const at::Tensor& input_TD, BlockActivations& saved) {
  forward_to_gate_up(context, layer, parameters, input_TD, saved);
  // 6) down, residual
  const at::Tensor hidden_RF = ops_of(input_TD).swiglu(saved.gate_up_RE);
  const at::Tensor out_RD = project(context, layer, parameters, Product::kDown, hidden_RF, saved, saved.middle_RD);
  return scatter_rows(out_RD, computed_rows(context, layer), input_TD.size(0));
}

void block_recompute(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                     const at::Tensor& input_TD, BlockActivations& saved) {
  forward_to_gate_up(context, layer, parameters, input_TD, saved);
  if (!parameters[Product::kDown].lora.modules.empty())
    linear_recompute(parameters[Product::kDown], ops_of(input_TD).swiglu(saved.gate_up_RE),
                     dropout_of(context, layer, Product::kDown), saved.linear[Product::kDown]);
}

at::Tensor block_backward(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                          BlockActivations& saved, const at::Tensor& dout_TD, const BlockGradients& gradients) {
  BlockBackward backward(context, layer, parameters, saved, gradients);
  const at::Tensor rows = computed_rows(context, layer);
  const at::Tensor dmiddle_RD = backward.feed_forward(gather_rows(dout_TD, rows));
  at::Tensor dinput_TD = backward.attention(dmiddle_RD, rows, dout_TD.size(0));
  saved = {};
  return dinput_TD;
}

}  // namespace plumb
