#include "lib/nn/tiled_attention.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <type_traits>
#include <vector>

#include "lib/kernels/product_kernels.hpp"
#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

constexpr int64_t kTileQueries = 64;

/// Rows with a distance between them.
template <class T>
struct Rows {
  T* first;
  int64_t stride;
  T* at(int64_t row) const { return first + row * stride; }
};

/// Queries [begin, end), and the keys [first_key, end) that at least one of them sees.
struct Tile {
  int64_t begin, end, first_key;
  int64_t num_queries() const { return end - begin; }
  int64_t num_keys() const { return end - first_key; }
};

/// A factor of a product, which may be transposed.
template <class T>
struct Factor {
  Rows<T> rows;
  bool is_transposed = false;
  int64_t row_stride() const { return is_transposed ? 1 : rows.stride; }
  int64_t column_stride() const { return is_transposed ? rows.stride : 1; }
};
struct ProductSize {
  int64_t num_rows, num_columns, depth;
};

/// c = scale * a b, or +=
void multiply(Rows<float> c, const ProductSize& size, Factor<float> a, Factor<float> b, double scale, bool adds) {
  std::vector<float> transposed;
  if (a.is_transposed) {
    for (int64_t row = 0; row < size.num_rows; ++row)
      for (int64_t i = 0; i < size.depth; ++i) transposed.push_back(a.rows.at(i)[row]);
    a = {{transposed.data(), size.depth}};
  }
  float_kernels().multiply({.a = a.rows.first,
                            .a_row_stride = a.rows.stride,
                            .b = b.rows.first,
                            .b_row_stride = b.row_stride(),
                            .b_column_stride = b.column_stride(),
                            .c = c.first,
                            .c_row_stride = c.stride,
                            .num_rows = size.num_rows,
                            .num_columns = size.num_columns,
                            .depth = size.depth,
                            .scale = static_cast<float>(scale),
                            .adds = adds});
}
template <class Out>
PairProduct<Out> pair_product(Rows<Out> c, const ProductSize& size, Factor<BFloat16> a, Factor<BFloat16> b,
                              double scale, bool adds) {
  return {a.rows.first, a.row_stride(), a.column_stride(), b.rows.first,     b.row_stride(), b.column_stride(),
          c.first,      c.stride,       size.num_rows,     size.num_columns, size.depth,     static_cast<float>(scale),
          adds};
}
void multiply(Rows<float> c, const ProductSize& size, Factor<BFloat16> a, Factor<BFloat16> b, double scale, bool adds) {
  pair_kernels()->multiply_to_float(pair_product(c, size, a, b, scale, adds));
}
void multiply(Rows<BFloat16> c, const ProductSize& size, Factor<BFloat16> a, Factor<BFloat16> b, double scale,
              bool adds) {
  pair_kernels()->multiply(pair_product(c, size, a, b, scale, adds));
}

float dot(const float* x, const float* y, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}
float dot(const BFloat16* x, const BFloat16* y, int64_t n) {
  constexpr int64_t kPart = 64, kSums = 16;
  std::array<float, kSums> sums{};
  for (int64_t begin = 0; begin < n; begin += kPart) {
    std::array<float, kPart> a{}, b{};
    activation_kernels<BFloat16>().to_float(x + begin, a.data(), std::min(kPart, n - begin));
    activation_kernels<BFloat16>().to_float(y + begin, b.data(), std::min(kPart, n - begin));
    for (size_t i = 0; i < kPart; i += kSums)
      for (size_t lane = 0; lane < kSums; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  return std::accumulate(sums.begin(), sums.end(), 0.0f);
}

/// Scores or their gradients of a tile, in float32, and as factors of products.
template <class T>
class Scores {
 public:
  explicit Scores(int64_t num_elements) : values_(std::make_unique_for_overwrite<float[]>(num_elements)) {
    if constexpr (!std::is_same_v<T, float>) rounded_ = std::make_unique_for_overwrite<T[]>(num_elements);
  }
  float* data() const { return values_.get(); }
  T* as_factor(int64_t num_elements) const {
    if constexpr (std::is_same_v<T, float>) {
      static_cast<void>(num_elements);
      return values_.get();
    } else {
      activation_kernels<T>().from_float(values_.get(), rounded_.get(), num_elements);
      return rounded_.get();
    }
  }

 private:
  std::unique_ptr<float[]> values_;
  std::unique_ptr<T[]> rounded_;
};

/// One query head of one text, on this thread.
template <class T>
class TiledHead {
 public:
  TiledHead(const AttentionShape& shape, const at::Tensor& qkv_NTQ, int64_t text, int64_t head)
      : shape_(shape), length_(qkv_NTQ.size(1)) {
    const int64_t h = shape.num_heads, g = shape.num_kv_heads, kv_head = head / (h / g);
    q_ = columns<T>(qkv_NTQ, text, head);
    k_ = columns<T>(qkv_NTQ, text, h + kv_head);
    v_ = columns<T>(qkv_NTQ, text, h + g + kv_head);
    if (shape.sinks_H != nullptr) sink_ = shape.sinks_H[head];
  }

  /// out: [length, K]; log_sum_exp: [length].
  void forward(Rows<T> out, float* log_sum_exp) const {
    const Scores<T> scores(kTileQueries * length_);
    for (int64_t begin = 0; begin < length_; begin += kTileQueries) {
      const Tile tile = tile_at(begin);
      const int64_t m = tile.num_queries(), n = tile.num_keys();
      find_scores(tile, scores.data());
      for (int64_t query = tile.begin; query < tile.end; ++query) {
        float* row = scores.data() + (query - tile.begin) * n;
        const auto [first, end] = seen_by(tile, query);
        std::fill(row, row + first, 0.0f);
        std::fill(row + end, row + n, 0.0f);
        log_sum_exp[query] = float_kernels().capped_softmax(row + first, end - first, cap(), sink_);
      }
      multiply(Rows<T>{out.at(tile.begin), out.stride}, {m, shape_.head_dim, n},
               Factor<T>{{scores.as_factor(m * n), n}}, Factor<T>{{v_.at(tile.first_key), v_.stride}}, 1, false);
    }
  }

  struct Gradients {
    Rows<float> dq, dk, dv;  // dk and dv are added to
  };
  /// Returns the gradient of the sink.
  float backward(Rows<T> out, const float* log_sum_exp, Rows<T> dout, const Gradients& gradients) const {
    float dsink = 0;
    const int64_t k = shape_.head_dim;
    const Scores<T> probabilities(kTileQueries * length_), dscores(kTileQueries * length_);
    for (int64_t begin = 0; begin < length_; begin += kTileQueries) {
      const Tile tile = tile_at(begin);
      const int64_t m = tile.num_queries(), n = tile.num_keys();
      find_scores(tile, probabilities.data());
      const Factor<T> douts = {{dout.at(tile.begin), dout.stride}}, queries = {{q_.at(tile.begin), q_.stride}};
      multiply(Rows<float>{dscores.data(), n}, {m, n, k}, douts, Factor<T>{{v_.at(tile.first_key), v_.stride}, true}, 1,
               false);
      for (int64_t query = tile.begin; query < tile.end; ++query) {
        float *const p = probabilities.data() + (query - tile.begin) * n, *const d = dscores.data() +
                                                                                     (p - probabilities.data());
        const auto [first, end] = seen_by(tile, query);
        const float output_dot = dot(out.at(query), dout.at(query), k);
        for (float* row : {p, d}) {
          std::fill(row, row + first, 0.0f);
          std::fill(row + end, row + n, 0.0f);
        }
        float_kernels().capped_softmax_backward(p + first, p + first, d + first, end - first, cap(), log_sum_exp[query],
                                                output_dot);
        if (shape_.sinks_H != nullptr) dsink -= std::exp(sink_ - log_sum_exp[query]) * output_dot;
      }
      const Rows<T> ds = {dscores.as_factor(m * n), n}, ps = {probabilities.as_factor(m * n), n};
      multiply(Rows<float>{gradients.dq.at(tile.begin), gradients.dq.stride}, {m, k, n}, Factor<T>{ds},
               Factor<T>{{k_.at(tile.first_key), k_.stride}}, shape_.scale(), false);
      multiply(Rows<float>{gradients.dk.at(tile.first_key), gradients.dk.stride}, {n, k, m}, Factor<T>{ds, true},
               queries, shape_.scale(), true);
      multiply(Rows<float>{gradients.dv.at(tile.first_key), gradients.dv.stride}, {n, k, m}, Factor<T>{ps, true}, douts,
               1, true);
    }
    return dsink;
  }

  /// The columns of one head in rows of heads [N, T, heads K].
  template <class Element>
  Rows<Element> columns(const at::Tensor& x_NTC, int64_t text, int64_t head) const {
    return {data_of<Element>(x_NTC) + text * x_NTC.size(1) * x_NTC.size(2) + head * shape_.head_dim, x_NTC.size(2)};
  }

 private:
  float cap() const { return static_cast<float>(shape_.score_cap); }

  Tile tile_at(int64_t begin) const {
    const int64_t window = shape_.sliding_window;
    return {begin, std::min(begin + kTileQueries, length_), window > 0 ? std::max<int64_t>(0, begin - window + 1) : 0};
  }

  /// The keys of a tile that a query sees, as a range within them.
  struct Seen {
    int64_t begin, end;
  };
  Seen seen_by(const Tile& tile, int64_t query) const {
    const int64_t first = shape_.sliding_window > 0 ? std::max<int64_t>(0, query - shape_.sliding_window + 1) : 0;
    return {first - tile.first_key, query + 1 - tile.first_key};
  }

  void find_scores(const Tile& tile, float* scores) const {
    multiply(Rows<float>{scores, tile.num_keys()}, {tile.num_queries(), tile.num_keys(), shape_.head_dim},
             Factor<T>{{q_.at(tile.begin), q_.stride}}, Factor<T>{{k_.at(tile.first_key), k_.stride}, true},
             shape_.scale(), false);
  }

  const AttentionShape& shape_;
  int64_t length_;
  Rows<T> q_, k_, v_;
  float sink_ = -std::numeric_limits<float>::infinity();
};

/// Calls body(text, head) for all; the heads that share a key run on one thread, in order.
template <class Body>
void for_heads(const AttentionShape& shape, int64_t num_texts, Body body) {
  const int64_t heads_per_key = shape.num_heads / shape.num_kv_heads;
  at::parallel_for(0, shape.num_kv_heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t text = 0; text < num_texts; ++text)
      for (int64_t head = begin * heads_per_key; head < end * heads_per_key; ++head) body(text, head);
  });
}

}  // namespace

TiledOutput tiled_attention_forward(const AttentionShape& shape, const at::Tensor& qkv_NTQ) {
  const int64_t n = qkv_NTQ.size(0), length = qkv_NTQ.size(1), h = shape.num_heads;
  const TiledOutput output = {at::empty({n, length, h * shape.head_dim}, qkv_NTQ.options()),
                              at::empty({n, h, length}, qkv_NTQ.options().dtype(at::kFloat))};
  with_element_type(qkv_NTQ.scalar_type(), [&]<class T>(T*) {
    for_heads(shape, n, [&](int64_t text, int64_t head) {
      const TiledHead<T> tiled(shape, qkv_NTQ, text, head);
      tiled.forward(tiled.template columns<T>(output.out_NTO, text, head),
                    data_of<float>(output.log_sum_exp_NHT) + (text * h + head) * length);
    });
  });
  return output;
}

at::Tensor tiled_attention_backward(const AttentionShape& shape, const at::Tensor& qkv_NTQ, const TiledOutput& saved,
                                    const at::Tensor& dout_NTO, const at::Tensor& dsinks_H) {
  const int64_t length = qkv_NTQ.size(1), h = shape.num_heads, g = shape.num_kv_heads;
  const at::Tensor dqkv_NTQ = at::zeros(qkv_NTQ.sizes(), qkv_NTQ.options().dtype(at::kFloat));
  with_element_type(qkv_NTQ.scalar_type(), [&]<class T>(T*) {
    for_heads(shape, qkv_NTQ.size(0), [&](int64_t text, int64_t head) {
      const TiledHead<T> tiled(shape, qkv_NTQ, text, head);
      const int64_t kv_head = head / (h / g);
      const float dsink = tiled.backward(tiled.template columns<T>(saved.out_NTO, text, head),
                                         data_of<float>(saved.log_sum_exp_NHT) + (text * h + head) * length,
                                         tiled.template columns<T>(dout_NTO, text, head),
                                         {.dq = tiled.template columns<float>(dqkv_NTQ, text, head),
                                          .dk = tiled.template columns<float>(dqkv_NTQ, text, h + kv_head),
                                          .dv = tiled.template columns<float>(dqkv_NTQ, text, h + g + kv_head)});
      if (dsinks_H.defined()) data_of<float>(dsinks_H)[head] += dsink;
    });
  });
  return dqkv_NTQ;
}

}  // namespace plumb
