// CUDA implementation of TensorOps: extracts pointers and starts the kernels of lib/kernels/cuda on the stream of
// LibTorch. What the caller holds on the host is copied to the device first; only the stats of a cross-entropy come
// back at once, for which the host waits. Nothing here but compute_stream() knows what a device is, so that the tests
// run this table on CPU tensors (tests/cuda_on_cpu).
#include "lib/nn/tensor_ops_cuda.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <numeric>

#include "lib/base/check.hpp"
#include "lib/kernels/cuda/kernels.hpp"
#include "lib/nn/compute_stream.hpp"
#include "lib/nn/device_copy.hpp"
#include "lib/nn/matmul.hpp"
#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

// Products of few distinct shapes: a library finds an algorithm for each.
constexpr int64_t kRowMultiple = 128;

at::Tensor empty_floats(at::IntArrayRef shape, const at::Tensor& like) {
  return at::empty(shape, like.options().dtype(at::kFloat));
}

template <class T>
NormWeight<T> weight_of(const Norm& norm) {
  return {data_of<T>(norm.weight_C), data_of<T>(norm.bias_C), static_cast<float>(norm.config.weight_offset)};
}

cuda::NormRows rows_of(const at::Tensor& x) { return cuda::NormRows::of_matrix(x.size(0), x.size(1)); }

void add_normalize(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& sum, const Norm& norm,
                   const at::Tensor& y, const at::Tensor& stats) {
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    const auto normalize = norm.config.kind == NormKind::kRms ? cuda::rms_norm<T> : cuda::layer_norm<T>;
    normalize(rows_of(x), data_of<T>(x), data_of<T>(residual), data_of<T>(sum), weight_of<T>(norm), data_of<T>(y),
              data_of<float>(stats), static_cast<float>(norm.config.epsilon), compute_stream());
  });
}

void normalize_rows(const at::Tensor& x, const Norm& norm, const at::Tensor& y, const at::Tensor& stats) {
  add_normalize(x, {}, {}, norm, y, stats);
}

at::Tensor recompute_norm(const NormInput& input, const Norm& norm) {
  at::Tensor y = at::empty_like(input.x_RC);
  with_element_type(y.scalar_type(), [&]<class T>(T*) {
    const auto recompute =
        norm.config.kind == NormKind::kRms ? cuda::recompute_rms_norm<T> : cuda::recompute_layer_norm<T>;
    recompute(rows_of(y), data_of<T>(input.x_RC), data_of<float>(input.stats), weight_of<T>(norm), data_of<T>(y),
              compute_stream());
  });
  return y;
}

at::Tensor norm_backward(const at::Tensor& dy, const NormInput& input, const Norm& norm, const at::Tensor& carry,
                         const at::Tensor& dweight, const at::Tensor& dbias) {
  at::Tensor dx = at::empty_like(input.x_RC);
  const at::Tensor scratch = empty_floats({cuda::norm_scratch_elements(dx.size(1))}, dx);
  with_element_type(dx.scalar_type(), [&]<class T>(T*) {
    if (norm.config.kind == NormKind::kRms)
      cuda::rms_norm_backward(rows_of(dx), data_of<T>(dy), data_of<T>(input.x_RC), data_of<float>(input.stats),
                              weight_of<T>(norm), data_of<T>(carry), data_of<T>(dx), data_of<float>(dweight),
                              data_of<float>(scratch), compute_stream());
    else
      cuda::layer_norm_backward(rows_of(dx), data_of<T>(dy), data_of<T>(input.x_RC), data_of<float>(input.stats),
                                weight_of<T>(norm), data_of<T>(carry), data_of<T>(dx), data_of<float>(dweight),
                                data_of<float>(dbias), data_of<float>(scratch), compute_stream());
  });
  return dx;
}

/// The heads that one weight normalizes: the queries or the keys.
struct NormedHeads {
  const at::Tensor& weight;
  int64_t per_token, first_column, first_stat;

  cuda::NormRows rows(const at::Tensor& x, const HeadNorms& norms) const {
    return {x.size(0) * per_token, weight.size(0), per_token, x.size(1), norms.num_queries() + norms.num_keys()};
  }
  template <class T>
  NormWeight<T> norm(const HeadNorms& norms) const {
    return {data_of<T>(weight), nullptr, static_cast<float>(norms.config.weight_offset)};
  }
};
NormedHeads queries_of(const HeadNorms& norms) { return {norms.q_norm_K, norms.num_queries(), 0, 0}; }
NormedHeads keys_of(const HeadNorms& norms) {
  const int64_t queries = norms.num_queries();
  return {norms.k_norm_K, norms.num_keys(), queries * norms.q_norm_K.size(0), queries};
}

void norm_heads(const at::Tensor& x, const HeadNorms& norms, const at::Tensor& y, const at::Tensor& rstd) {
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    for (const NormedHeads& heads : {queries_of(norms), keys_of(norms)})
      cuda::rms_norm<T>(heads.rows(x, norms), data_of<T>(x) + heads.first_column, nullptr, nullptr,
                        heads.norm<T>(norms), data_of<T>(y) + heads.first_column,
                        data_of<float>(rstd) + heads.first_stat, static_cast<float>(norms.config.epsilon),
                        compute_stream());
  });
}

void norm_heads_backward(const at::Tensor& x, const HeadNorms& norms, const at::Tensor& rstd, const at::Tensor& dx,
                         const at::Tensor& dq_norm, const at::Tensor& dk_norm) {
  const int64_t most_columns = std::max(norms.q_norm_K.size(0), norms.k_norm_K.size(0));
  const at::Tensor scratch = empty_floats({cuda::norm_scratch_elements(most_columns)}, x);
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    const auto backward = [&](const NormedHeads& heads, const at::Tensor& dweight) {
      T* const gradient = data_of<T>(dx) + heads.first_column;
      cuda::rms_norm_backward<T>(heads.rows(x, norms), gradient, data_of<T>(x) + heads.first_column,
                                 data_of<float>(rstd) + heads.first_stat, heads.norm<T>(norms), nullptr, gradient,
                                 data_of<float>(dweight), data_of<float>(scratch), compute_stream());
    };
    backward(queries_of(norms), dq_norm);
    backward(keys_of(norms), dk_norm);
  });
}

void rope(const at::Tensor& x, const Rotation& rotation, int64_t num_heads, float direction) {
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    const RopeRows<T> rows = {.x = data_of<T>(x),
                              .row_stride = x.size(1),
                              .positions = data_of<int32_t>(rotation.positions),
                              .num_rows = x.size(0),
                              .num_heads = num_heads,
                              .head_dim = rotation.head_dim,
                              .rotated_dim = 2 * rotation.cos.size(1),
                              .is_interleaved = rotation.is_interleaved};
    cuda::rope(rows, data_of<float>(rotation.cos), data_of<float>(rotation.sin), direction, compute_stream());
  });
}

cuda::Activation activation_of(FeedForward kind) {
  if (kind == FeedForward::kSwiGlu) return cuda::Activation::kSwiGlu;
  return kind == FeedForward::kGeGlu ? cuda::Activation::kGeGlu : cuda::Activation::kGelu;
}

at::Tensor feed_forward(FeedForward kind, const at::Tensor& gate_up) {
  const int64_t width = gate_up.size(1);
  at::Tensor y = at::empty({gate_up.size(0), kind == FeedForward::kGelu ? width : width / 2}, gate_up.options());
  with_element_type(y.scalar_type(), [&]<class T>(T*) {
    cuda::feed_forward(activation_of(kind), data_of<T>(gate_up), data_of<T>(y), y.size(0), y.size(1), compute_stream());
  });
  return y;
}

at::Tensor feed_forward_backward(FeedForward kind, const at::Tensor& dy, const at::Tensor& gate_up) {
  at::Tensor y = at::empty_like(dy);
  with_element_type(dy.scalar_type(), [&]<class T>(T*) {
    T* const rows = data_of<T>(gate_up);
    cuda::feed_forward_backward(activation_of(kind), data_of<T>(dy), rows, rows, data_of<T>(y), dy.size(0), dy.size(1),
                                compute_stream());
  });
  return y;
}

void cross_entropy(const at::Tensor& logits, std::span<const int64_t> labels, TokenLoss kind, const float* scales,
                   TokenStats* stats) {
  const int64_t count = std::ssize(labels);
  const at::Tensor device_labels = on_device_of(logits, labels.data(), count);
  const at::Tensor device_scales = scales ? on_device_of(logits, scales, count) : at::Tensor();
  const auto bytes = static_cast<int64_t>(count * sizeof(TokenStats));
  const at::Tensor device_stats = at::empty({bytes}, logits.options().dtype(at::kByte));
  with_element_type(logits.scalar_type(), [&]<class T>(T*) {
    cuda::cross_entropy(data_of<T>(logits), data_of<int64_t>(device_labels), count, logits.size(1), kind,
                        data_of<float>(device_scales), data_of<TokenStats>(device_stats), compute_stream());
  });
  at::from_blob(stats, {bytes}, at::TensorOptions().dtype(at::kByte)).copy_(device_stats);
}

void add_head_gradient(const at::Tensor& dlogits, const at::Tensor& x, bool is_first, const at::Tensor& gradient,
                       at::Tensor& /*scratch*/) {
  if (is_first) {
    matmul_into(gradient, dlogits.t(), x);
  } else {
    matmul_accumulate(gradient, dlogits.t(), x);
  }
}

/// Copies indices of rows to the device of x, which does not check them.
at::Tensor checked_indices(const at::Tensor& x, std::span<const int64_t> rows) {
  for (const int64_t row : rows) check(row >= 0 && row < x.size(0), "an index is that of a row");
  return on_device_of(x, rows.data(), std::ssize(rows));
}

void take_rows(const at::Tensor& x, std::span<const int64_t> rows, const at::Tensor& y) {
  check(x.is_contiguous(), "rows are taken from a contiguous matrix");
  const at::Tensor indices = checked_indices(x, rows);
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    cuda::take_rows(data_of<T>(x), data_of<int64_t>(indices), std::ssize(rows), data_of<T>(y), y.size(0), y.size(1),
                    compute_stream());
  });
}

void put_rows(const at::Tensor& x, std::span<const int64_t> rows, const at::Tensor& y) {
  const at::Tensor indices = checked_indices(y, rows);
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    cuda::put_rows(data_of<T>(x), data_of<int64_t>(indices), std::ssize(rows), data_of<T>(y), y.size(1),
                   compute_stream());
  });
}

std::vector<float> score_rows(const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor scores = empty_floats({x.size(0)}, x);
  cuda::score_rows(data_of<float>(x), data_of<float>(weight), data_of<float>(scores), x.size(0), x.size(1),
                   compute_stream());
  const at::Tensor on_host = scores.cpu();
  return {data_of<float>(on_host), data_of<float>(on_host) + on_host.numel()};
}

void score_rows_backward(std::span<const float> dscores, const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& dx, const at::Tensor& dweight) {
  const at::Tensor on_device = on_device_of(x, dscores.data(), std::ssize(dscores));
  cuda::score_rows_backward(data_of<float>(on_device), data_of<float>(x), data_of<float>(weight), data_of<float>(dx),
                            data_of<float>(dweight), x.size(0), x.size(1), compute_stream());
}

/// The rows sorted by token, those of a token in their order.
struct SortedRows {
  std::vector<int64_t> token, begin, row;
};
SortedRows sort_by_token(std::span<const int64_t> token_ids, int64_t frozen_token) {
  SortedRows sorted;
  for (int64_t t = 0; t < std::ssize(token_ids); ++t)
    if (token_ids[t] != frozen_token) sorted.row.push_back(t);
  std::stable_sort(sorted.row.begin(), sorted.row.end(),
                   [&](int64_t a, int64_t b) { return token_ids[a] < token_ids[b]; });
  for (size_t i = 0; i < sorted.row.size(); ++i) {
    const int64_t token = token_ids[sorted.row[i]];
    if (!sorted.token.empty() && sorted.token.back() == token) continue;
    sorted.token.push_back(token);
    sorted.begin.push_back(static_cast<int64_t>(i));
  }
  sorted.begin.push_back(std::ssize(sorted.row));
  return sorted;
}

void add_rows_by_token(const at::Tensor& gradient_TC, std::span<const int64_t> token_ids, int64_t frozen_token,
                       const at::Tensor& gradient_VC) {
  check(gradient_VC.is_contiguous(), "gradients are added to a contiguous matrix");
  const SortedRows sorted = sort_by_token(token_ids, frozen_token);
  if (sorted.row.empty()) return;
  const at::Tensor token = on_device_of(gradient_VC, sorted.token), begin = on_device_of(gradient_VC, sorted.begin),
                   row = on_device_of(gradient_VC, sorted.row);
  const cuda::TokenRuns runs = {std::ssize(sorted.token), data_of<int64_t>(token), data_of<int64_t>(begin),
                                data_of<int64_t>(row)};
  with_element_type(gradient_TC.scalar_type(), [&]<class T>(T*) {
    cuda::add_rows_by_token(data_of<T>(gradient_TC), runs, data_of<float>(gradient_VC), gradient_VC.size(1),
                            compute_stream());
  });
}

at::Tensor drop_out(const at::Tensor& x, const Dropout& dropout) {
  if (dropout.rate == 0) return x;
  at::Tensor y = at::empty_like(x);
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    cuda::drop_out(data_of<T>(x), data_of<T>(y), x.numel(), dropout.seed, dropout.stream,
                   static_cast<uint32_t>(dropout.rate * 0x1p32), static_cast<float>(1 / (1 - dropout.rate)),
                   compute_stream());
  });
  return y;
}

/// The parts of a matrix whose bytes are memory of the device.
cuda::Nf4Matrix parts_of(const Nf4View& view) {
  const Nf4Layout& layout = view.layout;
  const auto bytes_at = [&](int64_t offset) { return reinterpret_cast<const uint8_t*>(view.data + offset); };
  const auto floats_at = [&](int64_t offset) { return reinterpret_cast<const float*>(view.data + offset); };
  cuda::Nf4Matrix matrix = {};
  matrix.codes = bytes_at(layout.codes_offset);
  matrix.original = view.original_dtype;
  if (!layout.is_nested) {
    matrix.scales = floats_at(layout.absmax_offset);
    return matrix;
  }
  matrix.absmax_codes = bytes_at(layout.absmax_offset);
  matrix.nested_absmax = floats_at(layout.nested_absmax_offset);
  matrix.map = floats_at(layout.nested_map_offset);
  matrix.mean = floats_at(layout.nested_mean_offset);
  return matrix;
}

void dequantize(const Nf4View& matrix, int64_t begin, const at::Tensor& out) {
  check(begin >= 0 && begin + out.numel() <= matrix.layout.num_elements && out.is_contiguous(),
        "elements of a quantized matrix lie within it and go to contiguous memory");
  with_element_type(out.scalar_type(), [&]<class T>(T*) {
    cuda::nf4_dequantize(parts_of(matrix), begin, out.numel(), data_of<T>(out), compute_stream());
  });
}

at::Tensor squared_row_norms(const at::Tensor& weight) {
  at::Tensor squares = empty_floats({weight.size(0)}, weight);
  with_element_type(weight.scalar_type(), [&]<class T>(T*) {
    cuda::squared_row_norms(data_of<T>(weight), data_of<float>(squares), weight.size(0), weight.size(1),
                            compute_stream());
  });
  return squares;
}

int64_t round_up_rows(int64_t rows, int64_t /*element_bytes*/) {
  return (rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
}

constexpr TensorOps kCudaOps = {.normalize = normalize_rows,
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

const TensorOps& cuda_ops() { return kCudaOps; }

}  // namespace plumb
