#include "lib/nn/block.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include "lib/base/random.hpp"
#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

at::Tensor new_like(const at::Tensor& like, int64_t rows, int64_t columns) {
  return at::empty({rows, columns}, like.options());
}

/// Returns the normalized rows; sum = x + residual where there is a residual.
at::Tensor normalize(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& sum, const at::Tensor& weight,
                     double epsilon, at::Tensor& rstd) {
  const int64_t rows = x.size(0), columns = x.size(1);
  at::Tensor y = at::empty_like(x);
  rstd = at::empty({rows}, x.options().dtype(at::kFloat));
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    const auto at_row = [&](const at::Tensor& matrix, int64_t row) {
      return matrix.defined() ? data_of<T>(matrix) + row * columns : nullptr;
    };
    for_rows(rows, columns, [&](int64_t first, int64_t last) {
      activation_kernels<T>().rms_norm(at_row(x, first), at_row(residual, first), at_row(sum, first),
                                       data_of<T>(weight), at_row(y, first), data_of<float>(rstd) + first, last - first,
                                       columns, static_cast<float>(epsilon));
    });
  });
  return y;
}

at::Tensor recompute_rms_norm(const at::Tensor& x, const at::Tensor& rstd, const at::Tensor& weight) {
  at::Tensor y = at::empty_like(x);
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    activation_kernels<T>().rms_norm_again(data_of<T>(x), data_of<float>(rstd), data_of<T>(weight), data_of<T>(y),
                                           x.size(0), x.size(1));
  });
  return y;
}

/// Nothing where the gradient is undefined: the parameter is frozen.
void write_gradient(const at::Tensor& gradient, const at::Tensor& value, bool adds) {
  if (!gradient.defined()) return;
  if (adds) {
    gradient.add_(value);
  } else {
    gradient.copy_(value);
  }
}

/// Returns carry + gradient of the norm's input; writes or adds the weight's gradient.
at::Tensor normalize_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& rstd,
                              const at::Tensor& weight, const at::Tensor& carry, const at::Tensor& dweight, bool adds) {
  at::Tensor dx = at::empty_like(x);
  const at::Tensor sum = at::zeros({x.size(1)}, x.options().dtype(at::kFloat));
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    activation_kernels<T>().rms_norm_backward(data_of<T>(dy), data_of<T>(x), data_of<float>(rstd), data_of<T>(weight),
                                              data_of<T>(carry), data_of<T>(dx), data_of<float>(sum), x.size(0),
                                              x.size(1));
  });
  write_gradient(dweight, sum, adds);
  return dx;
}

AttentionShape attention_shape(const ModelConfig& config, int64_t layer) {
  return {config.num_heads, config.num_kv_heads, config.head_dim, config.sliding_window[layer]};
}

void rotate(const BlockContext& context, const at::Tensor& qkv, float direction) {
  const ModelConfig& config = context.config;
  with_element_type(qkv.scalar_type(), [&]<class T>(T*) {
    for_rows(qkv.size(0), qkv.size(1), [&](int64_t first, int64_t last) {
      const int64_t angles = first * (config.head_dim / 2);
      activation_kernels<T>().rope(data_of<T>(qkv) + first * qkv.size(1), qkv.size(1), context.rope.cos.data() + angles,
                                   context.rope.sin.data() + angles, last - first,
                                   config.num_heads + config.num_kv_heads, config.head_dim, direction);
    });
  });
}

/// Qwen3 normalizes each head of q and k. Copies v through. heads_begin: in heads, within a row.
void normalize_heads(const BlockContext& context, const BlockParameters& p, BlockActivations& kept) {
  const ModelConfig& config = context.config;
  const at::Tensor& x = kept.qkv_before_norm_TQ;
  const int64_t rows = x.size(0), columns = x.size(1), h = config.num_heads, g = config.num_kv_heads,
                k = config.head_dim;
  kept.qkv_TQ = x.clone();
  kept.head_rstd = at::empty({rows, h + g}, x.options().dtype(at::kFloat));
  const auto epsilon = static_cast<float>(config.rms_norm_eps);
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    const auto& kernels = activation_kernels<T>();
    for (int64_t row = 0; row < rows; ++row) {
      const T* in = data_of<T>(x) + row * columns;
      T* out = data_of<T>(kept.qkv_TQ) + row * columns;
      float* rstd = data_of<float>(kept.head_rstd) + row * (h + g);
      kernels.rms_norm(in, nullptr, nullptr, data_of<T>(p.q_norm_K), out, rstd, h, k, epsilon);
      kernels.rms_norm(in + h * k, nullptr, nullptr, data_of<T>(p.k_norm_K), out + h * k, rstd + h, g, k, epsilon);
    }
  });
}

/// dqkv in place: gradient after the head norms becomes that before them.
void normalize_heads_backward(const BlockContext& context, const BlockParameters& p, const BlockActivations& kept,
                              const at::Tensor& dqkv, const BlockTensors& gradients, bool adds) {
  const ModelConfig& config = context.config;
  const at::Tensor& x = kept.qkv_before_norm_TQ;
  const int64_t rows = x.size(0), columns = x.size(1), h = config.num_heads, g = config.num_kv_heads,
                k = config.head_dim;
  const at::Tensor sum_q = at::zeros({k}, x.options().dtype(at::kFloat)), sum_k = at::zeros_like(sum_q);
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    const auto& kernels = activation_kernels<T>();
    for (int64_t row = 0; row < rows; ++row) {
      const T* in = data_of<T>(x) + row * columns;
      T* d = data_of<T>(dqkv) + row * columns;
      const float* rstd = data_of<float>(kept.head_rstd) + row * (h + g);
      kernels.rms_norm_backward(d, in, rstd, data_of<T>(p.q_norm_K), nullptr, d, data_of<float>(sum_q), h, k);
      kernels.rms_norm_backward(d + h * k, in + h * k, rstd + h, data_of<T>(p.k_norm_K), nullptr, d + h * k,
                                data_of<float>(sum_k), g, k);
    }
  });
  write_gradient(gradients.q_norm_K, sum_q, adds);
  write_gradient(gradients.k_norm_K, sum_k, adds);
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  at::Tensor y = new_like(gate_up, gate_up.size(0), gate_up.size(1) / 2);
  with_element_type(y.scalar_type(), [&]<class T>(T*) {
    for_rows(y.size(0), y.size(1), [&](int64_t first, int64_t last) {
      activation_kernels<T>().swiglu(data_of<T>(gate_up) + first * gate_up.size(1), data_of<T>(y) + first * y.size(1),
                                     last - first, y.size(1));
    });
  });
  return y;
}

/// Of one product of one layer: every product has a mask of its own.
Dropout dropout_of(const BlockContext& context, int64_t layer, Product product) {
  Dropout dropout = context.dropout;
  dropout.stream = random_bits(dropout.seed, dropout.stream,
                               static_cast<uint64_t>(layer * kNumProducts + static_cast<int64_t>(product)));
  return dropout;
}

at::Tensor project(const BlockContext& context, int64_t layer, const BlockParameters& p, Product product,
                   const at::Tensor& x, BlockActivations& kept, const at::Tensor& residual = {}) {
  return linear_forward(p[product], x, residual, dropout_of(context, layer, product), kept.linear[product]);
}

/// Which rows the block computes behind attention; undefined: all.
at::Tensor read_rows(const BlockContext& context, int64_t layer) {
  return layer + 1 == context.config.num_layers ? context.read_rows : at::Tensor();
}

/// Those rows of x, and zeros up to a number that oneDNN has met.
at::Tensor take_rows(const at::Tensor& x, const at::Tensor& rows) {
  if (!rows.defined()) return x;
  const int64_t count = rows.size(0), padded = round_up_rows(count, x.element_size());
  at::Tensor taken = new_like(x, padded, x.size(1)), first = taken.narrow(0, 0, count);
  at::index_select_out(first, x, 0, rows);
  if (padded > count) taken.narrow(0, count, padded - count).zero_();
  return taken;
}

/// Back to where they were among rows of zeros.
at::Tensor put_rows(const at::Tensor& taken, const at::Tensor& rows, int64_t num_rows) {
  if (!rows.defined()) return taken;
  return at::zeros({num_rows, taken.size(1)}, taken.options()).index_copy_(0, rows, taken.narrow(0, 0, rows.size(0)));
}

void forward_to_gate_up(const BlockContext& context, int64_t layer, const BlockParameters& p, const at::Tensor& input,
                        BlockActivations& kept) {
  const ModelConfig& config = context.config;
  kept.input_TD = input;
  at::Tensor normed = normalize(input, {}, {}, p.input_norm_D, config.rms_norm_eps, kept.input_rstd_T);
  at::Tensor qkv = project(context, layer, p, Product::kQkv, normed, kept);
  if (config.has_qk_norm) {
    kept.qkv_before_norm_TQ = qkv;
    normalize_heads(context, p, kept);
  } else {
    kept.qkv_TQ = qkv;
  }
  rotate(context, kept.qkv_TQ, 1.0f);
  const at::Tensor attended_TO = new_like(input, input.size(0), config.num_heads * config.head_dim);
  attention_forward(attention_shape(config, layer), kept.qkv_TQ, context.documents, attended_TO, kept.attention);
  const at::Tensor rows = read_rows(context, layer);
  kept.attended_RO = take_rows(attended_TO, rows);
  const at::Tensor residual = take_rows(input, rows);
  const at::Tensor attention_out = project(context, layer, p, Product::kO, kept.attended_RO, kept);
  kept.middle_RD = at::empty_like(residual);
  normed = normalize(residual, attention_out, kept.middle_RD, p.post_norm_D, config.rms_norm_eps, kept.middle_rstd_R);
  kept.gate_up_RE = project(context, layer, p, Product::kGateUp, normed, kept);
}

}  // namespace

BlockParameters::BlockParameters(const BlockTensors& t)
    : input_norm_D(t.input_norm_D), q_norm_K(t.q_norm_K), k_norm_K(t.k_norm_K), post_norm_D(t.post_norm_D) {
  linear = {Linear{t.qkv_QD, t.qkv_bias_Q, {}, {}}, Linear{t.o_DO, t.o_bias_D, {}, {}},
            Linear{t.gate_up_ED, {}, {}, {}}, Linear{t.down_DF, {}, {}, {}}};
}

BlockTensors block_tensors(const UnitLayout& unit, const at::Tensor& flat) {
  BlockTensors t;
  // a matrix that covers several parameters starts at the first of them and takes the rows of all
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
                         const at::Tensor& input_TD, BlockActivations& kept) {
  forward_to_gate_up(context, layer, parameters, input_TD, kept);
  const at::Tensor out =
      project(context, layer, parameters, Product::kDown, swiglu(kept.gate_up_RE), kept, kept.middle_RD);
  return put_rows(out, read_rows(context, layer), input_TD.size(0));
}

void block_recompute(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                     const at::Tensor& input_TD, BlockActivations& kept) {
  forward_to_gate_up(context, layer, parameters, input_TD, kept);
  if (!parameters[Product::kDown].lora.modules.empty())
    linear_recompute(parameters[Product::kDown], swiglu(kept.gate_up_RE), dropout_of(context, layer, Product::kDown),
                     kept.linear[Product::kDown]);
}

at::Tensor block_backward(const BlockContext& context, int64_t layer, const BlockParameters& p, BlockActivations& kept,
                          const at::Tensor& dout_TD, const BlockGradients& gradients) {
  const auto backward_input = [&](Product product, const at::Tensor& dy, bool needs_dx) {
    const auto index = static_cast<size_t>(product);
    return linear_backward_input(p[product], dy, kept.linear[index], dropout_of(context, layer, product), needs_dx,
                                 &gradients.lora[index]);
  };
  // the gradients of a product's own matrices; x() makes its input again, where anything needs it
  const auto backward_matrices = [&](Product product, const at::Tensor& dy, const LinearInputGradient& backward,
                                     const at::Tensor& dweight, const auto& x) {
    const LoraGroup& lora = gradients.lora[product];
    if (!gradients.has_base && lora.modules.empty()) return;
    const at::Tensor input = x();
    at::Tensor target = dweight;
    if (gradients.adds_base) {
      target.addmm_(dy.t(), input);
    } else if (gradients.has_base) {
      at::mm_out(target, dy.t(), input);
    }
    if (!lora.modules.empty()) linear_backward_a(backward, input, dropout_of(context, layer, product), lora);
  };
  const at::Tensor rows = read_rows(context, layer), dout = take_rows(dout_TD, rows);
  const int64_t num_rows = dout_TD.size(0);
  // feed-forward half
  const bool adds = gradients.adds_base;
  at::Tensor hidden = new_like(dout, dout.size(0), kept.gate_up_RE.size(1) / 2);
  LinearInputGradient down = backward_input(Product::kDown, dout, true);
  with_element_type(dout.scalar_type(), [&]<class T>(T*) {  // the gate's and up's gradients replace them
    const int64_t columns = hidden.size(1);
    for_rows(hidden.size(0), columns, [&](int64_t first, int64_t last) {
      T* const gate_up = data_of<T>(kept.gate_up_RE) + first * 2 * columns;
      activation_kernels<T>().swiglu_backward(data_of<T>(down.dx_TI) + first * columns, gate_up, gate_up,
                                              data_of<T>(hidden) + first * columns, last - first, columns);
    });
  });
  down.dx_TI.reset();
  backward_matrices(Product::kDown, dout, down, gradients.base.down_DF, [&] { return hidden; });
  hidden.reset();
  const at::Tensor& dgate_up = kept.gate_up_RE;
  LinearInputGradient gate_up = backward_input(Product::kGateUp, dgate_up, true);
  backward_matrices(Product::kGateUp, dgate_up, gate_up, gradients.base.gate_up_ED,
                    [&] { return recompute_rms_norm(kept.middle_RD, kept.middle_rstd_R, p.post_norm_D); });
  const at::Tensor dmiddle = normalize_backward(gate_up.dx_TI, kept.middle_RD, kept.middle_rstd_R, p.post_norm_D, dout,
                                                gradients.base.post_norm_D, adds);
  gate_up.dx_TI.reset();
  // attention half
  const LinearInputGradient o = backward_input(Product::kO, dmiddle, true);
  backward_matrices(Product::kO, dmiddle, o, gradients.base.o_DO, [&] { return kept.attended_RO; });
  if (gradients.base.o_bias_D.defined())
    write_gradient(gradients.base.o_bias_D, dmiddle.sum(0, false, at::kFloat), adds);
  const bool adapts_qkv = !p[Product::kQkv].lora.modules.empty();
  if (!gradients.has_base && !gradients.needs_input && !adapts_qkv) {
    kept = {};
    return {};
  }
  const at::Tensor dqkv = at::empty_like(kept.qkv_TQ);
  attention_backward(attention_shape(context.config, layer), kept.qkv_TQ, context.documents, kept.attention,
                     put_rows(o.dx_TI, rows, num_rows), dqkv);
  rotate(context, dqkv, -1.0f);
  if (context.config.has_qk_norm) normalize_heads_backward(context, p, kept, dqkv, gradients.base, adds);
  const LinearInputGradient qkv = backward_input(Product::kQkv, dqkv, gradients.needs_input);
  backward_matrices(Product::kQkv, dqkv, qkv, gradients.base.qkv_QD,
                    [&] { return recompute_rms_norm(kept.input_TD, kept.input_rstd_T, p.input_norm_D); });
  if (gradients.base.qkv_bias_Q.defined())
    write_gradient(gradients.base.qkv_bias_Q, dqkv.sum(0, false, at::kFloat), adds);
  at::Tensor dinput;
  if (gradients.needs_input)
    dinput = normalize_backward(qkv.dx_TI, kept.input_TD, kept.input_rstd_T, p.input_norm_D,
                                put_rows(dmiddle, rows, num_rows), gradients.base.input_norm_D, adds);
  kept = {};
  return dinput;
}

}  // namespace plumb
