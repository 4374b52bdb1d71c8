// CPU implementation of TensorOps: extracts pointers, dispatches by element type, and divides rows among threads.
#include <ATen/Parallel.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <array>

#include "lib/base/check.hpp"
#include "lib/base/random.hpp"
#include "lib/nn/matmul.hpp"
#include "lib/nn/tensor_kernels.hpp"
#include "lib/nn/tensor_ops.hpp"

namespace plumb {

namespace {

template <class T>
NormWeight<T> weight_of(const Norm& norm) {
  return {data_of<T>(norm.weight_C), data_of<T>(norm.bias_C), static_cast<float>(norm.config.weight_offset)};
}

void normalize_rows(const at::Tensor& x, const Norm& norm, const at::Tensor& y, const at::Tensor& stats) {
  const int64_t columns = x.size(1);
  const auto epsilon = static_cast<float>(norm.config.epsilon);
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    const auto& kernels = activation_kernels<T>();
    for_rows(x.size(0), columns, [&](int64_t first, int64_t last) {
      const T* in = data_of<T>(x) + first * columns;
      T* out = data_of<T>(y) + first * columns;
      if (norm.config.kind == NormKind::kRms) {
        kernels.rms_norm(in, nullptr, nullptr, weight_of<T>(norm), out, data_of<float>(stats) + first, last - first,
                         columns, epsilon);
      } else {
        kernels.layer_norm(in, weight_of<T>(norm), out, data_of<float>(stats) + 2 * first, last - first, columns,
                           epsilon);
      }
    });
  });
}

void add_normalize(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& sum, const Norm& norm,
                   const at::Tensor& y, const at::Tensor& stats) {
  if (norm.config.kind == NormKind::kLayer) {
    at::Tensor target = sum;
    at::add_out(target, x, residual);
    return normalize_rows(sum, norm, y, stats);
  }
  const int64_t columns = x.size(1);
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    for_rows(x.size(0), columns, [&](int64_t first, int64_t last) {
      const int64_t offset = first * columns;
      activation_kernels<T>().rms_norm(data_of<T>(x) + offset, data_of<T>(residual) + offset, data_of<T>(sum) + offset,
                                       weight_of<T>(norm), data_of<T>(y) + offset, data_of<float>(stats) + first,
                                       last - first, columns, static_cast<float>(norm.config.epsilon));
    });
  });
}

at::Tensor recompute_norm(const NormInput& input, const Norm& norm) {
  at::Tensor y = at::empty_like(input.x_RC);
  with_element_type(y.scalar_type(), [&]<class T>(T*) {
    const auto& kernels = activation_kernels<T>();
    const auto recompute =
        norm.config.kind == NormKind::kRms ? kernels.recompute_rms_norm : kernels.recompute_layer_norm;
    recompute(data_of<T>(input.x_RC), data_of<float>(input.stats), weight_of<T>(norm), data_of<T>(y), y.size(0),
              y.size(1));
  });
  return y;
}

at::Tensor norm_backward(const at::Tensor& dy, const NormInput& input, const Norm& norm, const at::Tensor& carry,
                         const at::Tensor& dweight, const at::Tensor& dbias) {
  at::Tensor dx = at::empty_like(input.x_RC);
  with_element_type(dx.scalar_type(), [&]<class T>(T*) {
    const auto& kernels = activation_kernels<T>();
    if (norm.config.kind == NormKind::kRms) {
      kernels.rms_norm_backward(data_of<T>(dy), data_of<T>(input.x_RC), data_of<float>(input.stats), weight_of<T>(norm),
                                data_of<T>(carry), data_of<T>(dx), data_of<float>(dweight), dx.size(0), dx.size(1));
    } else {
      kernels.layer_norm_backward(data_of<T>(dy), data_of<T>(input.x_RC), data_of<float>(input.stats),
                                  weight_of<T>(norm), data_of<T>(carry), data_of<T>(dx), data_of<float>(dweight),
                                  data_of<float>(dbias), dx.size(0), dx.size(1));
    }
  });
  return dx;
}

template <class T>
NormWeight<T> weight_of(const at::Tensor& weight, const HeadNorms& norms) {
  return {data_of<T>(weight), nullptr, static_cast<float>(norms.config.weight_offset)};
}

void norm_heads(const at::Tensor& x, const HeadNorms& norms, const at::Tensor& y, const at::Tensor& rstd) {
  const int64_t columns = x.size(1), queries = norms.num_queries(), keys = norms.num_keys();
  const int64_t q_dim = norms.q_norm_K.size(0), k_dim = norms.k_norm_K.size(0), first_key = queries * q_dim;
  const auto epsilon = static_cast<float>(norms.config.epsilon);
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    const auto& kernels = activation_kernels<T>();
    const NormWeight<T> q_weight = weight_of<T>(norms.q_norm_K, norms), k_weight = weight_of<T>(norms.k_norm_K, norms);
    for (int64_t row = 0; row < x.size(0); ++row) {
      const T* in = data_of<T>(x) + row * columns;
      T* out = data_of<T>(y) + row * columns;
      float* row_rstd = data_of<float>(rstd) + row * (queries + keys);
      kernels.rms_norm(in, nullptr, nullptr, q_weight, out, row_rstd, queries, q_dim, epsilon);
      kernels.rms_norm(in + first_key, nullptr, nullptr, k_weight, out + first_key, row_rstd + queries, keys, k_dim,
                       epsilon);
    }
  });
}

void norm_heads_backward(const at::Tensor& x, const HeadNorms& norms, const at::Tensor& rstd, const at::Tensor& dx,
                         const at::Tensor& dq_norm, const at::Tensor& dk_norm) {
  const int64_t columns = x.size(1), queries = norms.num_queries(), keys = norms.num_keys();
  const int64_t q_dim = norms.q_norm_K.size(0), k_dim = norms.k_norm_K.size(0), first_key = queries * q_dim;
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    const auto& kernels = activation_kernels<T>();
    const NormWeight<T> q_weight = weight_of<T>(norms.q_norm_K, norms), k_weight = weight_of<T>(norms.k_norm_K, norms);
    for (int64_t row = 0; row < x.size(0); ++row) {
      const T* in = data_of<T>(x) + row * columns;
      T* d = data_of<T>(dx) + row * columns;
      const float* row_rstd = data_of<float>(rstd) + row * (queries + keys);
      kernels.rms_norm_backward(d, in, row_rstd, q_weight, nullptr, d, data_of<float>(dq_norm), queries, q_dim);
      kernels.rms_norm_backward(d + first_key, in + first_key, row_rstd + queries, k_weight, nullptr, d + first_key,
                                data_of<float>(dk_norm), keys, k_dim);
    }
  });
}

void rope(const at::Tensor& x, const Rotation& rotation, int64_t num_heads, float direction) {
  const int64_t columns = x.size(1);
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    for_rows(x.size(0), columns, [&](int64_t first, int64_t last) {
      const RopeRows<T> rows = {.x = data_of<T>(x) + first * columns,
                                .row_stride = columns,
                                .positions = data_of<int32_t>(rotation.positions) + first,
                                .num_rows = last - first,
                                .num_heads = num_heads,
                                .head_dim = rotation.head_dim,
                                .rotated_dim = 2 * rotation.cos.size(1),
                                .is_interleaved = rotation.is_interleaved};
      activation_kernels<T>().rope(rows, data_of<float>(rotation.cos), data_of<float>(rotation.sin), direction);
    });
  });
}

template <class T>
const FeedForwardKernels<T>& feed_forward_kernels(FeedForward kind) {
  const ActivationKernels<T>& kernels = activation_kernels<T>();
  if (kind == FeedForward::kSwiGlu) return kernels.swiglu;
  return kind == FeedForward::kGeGlu ? kernels.geglu : kernels.gelu;
}

at::Tensor feed_forward(FeedForward kind, const at::Tensor& gate_up) {
  const int64_t width = gate_up.size(1), columns = kind == FeedForward::kGelu ? width : width / 2;
  at::Tensor y = at::empty({gate_up.size(0), columns}, gate_up.options());
  with_element_type(y.scalar_type(), [&]<class T>(T*) {
    for_rows(y.size(0), columns, [&](int64_t first, int64_t last) {
      feed_forward_kernels<T>(kind).forward(data_of<T>(gate_up) + first * width, data_of<T>(y) + first * columns,
                                            last - first, columns);
    });
  });
  return y;
}

at::Tensor feed_forward_backward(FeedForward kind, const at::Tensor& dy, const at::Tensor& gate_up) {
  at::Tensor y = at::empty_like(dy);
  with_element_type(dy.scalar_type(), [&]<class T>(T*) {
    const int64_t columns = dy.size(1), width = gate_up.size(1);
    for_rows(dy.size(0), columns, [&](int64_t first, int64_t last) {
      T* const rows = data_of<T>(gate_up) + first * width;
      feed_forward_kernels<T>(kind).backward(data_of<T>(dy) + first * columns, rows, rows,
                                             data_of<T>(y) + first * columns, last - first, columns);
    });
  });
  return y;
}

void cross_entropy(const at::Tensor& logits, std::span<const int64_t> labels, TokenLoss kind, const float* scales,
                   TokenStats* stats) {
  const int64_t vocab = logits.size(1);
  with_element_type(logits.scalar_type(), [&]<class T>(T*) {
    for_rows(std::ssize(labels), vocab, [&](int64_t first, int64_t last) {
      activation_kernels<T>().cross_entropy(data_of<T>(logits) + first * vocab, labels.data() + first, last - first,
                                            vocab, kind, scales ? scales + first : nullptr, stats + first);
    });
  });
}

void add_head_gradient(const at::Tensor& dlogits, const at::Tensor& x, bool is_first, const at::Tensor& gradient,
                       at::Tensor& scratch) {
  if (x.scalar_type() == at::kFloat || has_pair_products()) {  // the product adds in place
    if (is_first) {
      matmul_into(gradient, dlogits.t(), x);
    } else {
      matmul_accumulate(gradient, dlogits.t(), x);
    }
    return;
  }
  // a bfloat16 product is rounded once per call and added in float32, a slice of the vocabulary at a time
  const int64_t vocab = gradient.size(0), dim = gradient.size(1);
  const int64_t slice = std::max<int64_t>(16, kHeadGradientSliceElements / dim);
  const int64_t most_rows = std::min(slice, vocab);
  if (!scratch.defined() || scratch.size(1) != dim || scratch.size(0) < most_rows)
    scratch = at::empty({most_rows, dim}, x.options());
  for (int64_t begin = 0; begin < vocab; begin += slice) {
    const int64_t rows = std::min(slice, vocab - begin);
    at::Tensor part = scratch.narrow(0, 0, rows);
    at::mm_out(part, dlogits.narrow(1, begin, rows).t(), x);
    const auto add = is_first ? activation_kernels<BFloat16>().to_float : activation_kernels<BFloat16>().add_to_float;
    add(data_of<BFloat16>(part), data_of<float>(gradient) + begin * dim, rows * dim);
  }
}

void take_rows(const at::Tensor& x, std::span<const int64_t> rows, const at::Tensor& y) {
  const int64_t count = std::ssize(rows);
  at::Tensor first = y.narrow(0, 0, count);
  at::index_select_out(first, x, 0, as_tensor(rows));
  if (y.size(0) > count) y.narrow(0, count, y.size(0) - count).zero_();
}

void put_rows(const at::Tensor& x, std::span<const int64_t> rows, const at::Tensor& y) {
  at::Tensor(y).index_copy_(0, as_tensor(rows), x.narrow(0, 0, std::ssize(rows)));
}

std::vector<float> score_rows(const at::Tensor& x, const at::Tensor& weight) {
  const int64_t dim = x.size(1);
  std::vector<float> scores;
  const float* const w = data_of<float>(weight);
  for (int64_t row = 0; row < x.size(0); ++row) {
    const float* const in = data_of<float>(x) + row * dim;
    double sum = 0;
    for (int64_t i = 0; i < dim; ++i) sum += static_cast<double>(in[i]) * static_cast<double>(w[i]);
    scores.push_back(static_cast<float>(sum));
  }
  return scores;
}

void score_rows_backward(std::span<const float> dscores, const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& dx, const at::Tensor& dweight) {
  const int64_t dim = x.size(1);
  float* const dw = data_of<float>(dweight);
  const float* const w = data_of<float>(weight);
  for (int64_t row = 0; row < x.size(0); ++row) {
    const float d = dscores[row];
    const float* const in = data_of<float>(x) + row * dim;
    float* const out = data_of<float>(dx) + row * dim;
    for (int64_t i = 0; i < dim; ++i) {
      if (dw) dw[i] += d * in[i];
      out[i] = d * w[i];
    }
  }
}

void add_rows_by_token(const at::Tensor& gradient_TC, std::span<const int64_t> token_ids, int64_t frozen_token,
                       const at::Tensor& gradient_VC) {
  const int64_t dim = gradient_TC.size(1);
  if (!gradient_VC.is_contiguous()) {  // PEFT's A of an embedding is stored transposed
    const at::Tensor floats_TC = gradient_TC.to(at::kFloat);
    const auto from = floats_TC.accessor<float, 2>();
    auto to = gradient_VC.accessor<float, 2>();
    for (int64_t t = 0; t < std::ssize(token_ids); ++t)
      for (int64_t c = 0; token_ids[t] != frozen_token && c < dim; ++c) to[token_ids[t]][c] += from[t][c];
    return;
  }
  with_element_type(gradient_TC.scalar_type(), [&]<class T>(T*) {
    for (int64_t t = 0; t < std::ssize(token_ids); ++t) {
      if (token_ids[t] == frozen_token) continue;
      activation_kernels<T>().add_to_float(data_of<T>(gradient_TC) + t * dim,
                                           data_of<float>(gradient_VC) + token_ids[t] * dim, dim);
    }
  });
}

at::Tensor drop_out(const at::Tensor& x, const Dropout& dropout) {
  if (dropout.rate == 0) return x;
  at::Tensor y = at::empty_like(x);
  const auto threshold = static_cast<uint32_t>(dropout.rate * 0x1p32);
  const auto scale = static_cast<float>(1 / (1 - dropout.rate));
  const int64_t num_words = (x.numel() + 3) / 4;
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    const T* in = data_of<T>(x);
    T* out = data_of<T>(y);
    at::parallel_for(0, num_words, 1024, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto words = philox({static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32),
                                   static_cast<uint32_t>(dropout.stream), static_cast<uint32_t>(dropout.stream >> 32)},
                                  dropout.seed);
        const int64_t first = 4 * i, count = std::min<int64_t>(4, x.numel() - first);
        std::array<float, 4> values;
        activation_kernels<T>().to_float(in + first, values.data(), count);
        for (size_t k = 0; k < 4; ++k) values[k] = words[k] < threshold ? 0.0f : values[k] * scale;
        activation_kernels<T>().from_float(values.data(), out + first, count);
      }
    });
  });
  return y;
}

void dequantize(const Nf4View& matrix, int64_t begin, const at::Tensor& out) {
  constexpr int64_t kBlock = 64, kGrainBlocks = 1 << 10;  // about ten microseconds on one thread
  check(out.is_contiguous() && (out.scalar_type() == at::kFloat || out.scalar_type() == at::kBFloat16),
        "a matrix is dequantized to contiguous float32 or bfloat16");
  const int64_t num_blocks = (out.numel() + kBlock - 1) / kBlock;
  at::parallel_for(0, num_blocks, kGrainBlocks, [&](int64_t first_block, int64_t last_block) {
    const int64_t first = first_block * kBlock;
    const auto count = static_cast<size_t>(std::min(last_block * kBlock, out.numel()) - first);
    if (out.scalar_type() == at::kFloat)
      plumb::nf4_dequantize(matrix, begin + first, std::span(data_of<float>(out) + first, count));
    else
      nf4_dequantize_bf16(matrix, begin + first, std::span(data_of<uint16_t>(out) + first, count));
  });
}

at::Tensor squared_row_norms(const at::Tensor& weight) {
  const int64_t num_rows = weight.size(0), num_columns = weight.size(1);
  at::Tensor squares = at::empty({num_rows}, at::TensorOptions().dtype(at::kFloat));
  at::parallel_for(0, num_rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<float> row(num_columns);
    for (int64_t i = begin; i < end; ++i) {
      with_element_type(weight.scalar_type(), [&]<class T>(T*) {
        activation_kernels<T>().to_float(data_of<T>(weight) + i * num_columns, row.data(), num_columns);
      });
      data_of<float>(squares)[i] = static_cast<float>(float_kernels().sum_of_squares(row.data(), num_columns));
    }
  });
  return squares;
}

/// Bfloat16 rows are padded because oneDNN, where it computes products, compiles and caches code for every number of
/// rows.
int64_t round_up_rows(int64_t rows, int64_t element_bytes) {
  constexpr int64_t kBFloat16Rows = 64;
  const int64_t multiple = element_bytes == 4 ? 1 : kBFloat16Rows;
  return (rows + multiple - 1) / multiple * multiple;
}

constexpr TensorOps kCpuOps = {.normalize = normalize_rows,
                               .add_normalize = add_normalize,
                               .recompute_norm = recompute_norm,
                               .norm_backward = norm_backward,
                               .norm_heads = norm_heads,
                               .norm_heads_backward = norm_heads_backward,
                               .rope = rope,
                               .feed_forward = feed_forward,
                               .feed_forward_backward = feed_forward_backward,
                               .cross_entropy = cross_entropy,
                               .add_head_gradient = add_head_gradient,
                               .take_rows = take_rows,
                               .put_rows = put_rows,
                               .add_rows_by_token = add_rows_by_token,
                               .score_rows = score_rows,
                               .score_rows_backward = score_rows_backward,
                               .drop_out = drop_out,
                               .nf4_dequantize = dequantize,
                               .squared_row_norms = squared_row_norms,
                               .round_up_rows = round_up_rows};

}  // namespace

const TensorOps& cpu_ops() { return kCpuOps; }

}  // namespace plumb
