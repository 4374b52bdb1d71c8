#include "lib/nn/tiled_attention.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

constexpr int64_t kTileQueries = 64;

/// Rows of floats with a distance between them.
struct Rows {
  float* first;
  int64_t stride;
  float* at(int64_t row) const { return first + row * stride; }
};

/// Queries [begin, end), and the keys [first_key, end) that at least one of them sees.
struct Tile {
  int64_t begin, end, first_key;
  int64_t num_queries() const { return end - begin; }
  int64_t num_keys() const { return end - first_key; }
};

/// c = scale * a b, or += : a [rows, depth], b [depth, columns] or, if transposed, [columns, depth].
struct Factor {
  Rows rows;
  bool is_transposed = false;
};
void multiply(Rows c, int64_t num_rows, int64_t num_columns, Rows a, Factor b, int64_t depth, double scale, bool adds) {
  float_kernels().multiply({.a = a.first,
                            .a_row_stride = a.stride,
                            .b = b.rows.first,
                            .b_row_stride = b.is_transposed ? 1 : b.rows.stride,
                            .b_column_stride = b.is_transposed ? b.rows.stride : 1,
                            .c = c.first,
                            .c_row_stride = c.stride,
                            .num_rows = num_rows,
                            .num_columns = num_columns,
                            .depth = depth,
                            .scale = static_cast<float>(scale),
                            .adds = adds});
}

void transpose(const float* x, int64_t rows, int64_t columns, float* out) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column) out[column * rows + row] = x[row * columns + column];
}

/// One query head of one text, on this thread.
class TiledHead {
 public:
  TiledHead(const AttentionShape& shape, const at::Tensor& qkv_NTQ, int64_t text, int64_t head)
      : shape_(shape), length_(qkv_NTQ.size(1)) {
    const int64_t h = shape.num_heads, g = shape.num_kv_heads, kv_head = head / (h / g);
    q_ = columns(qkv_NTQ, text, head);
    k_ = columns(qkv_NTQ, text, h + kv_head);
    v_ = columns(qkv_NTQ, text, h + g + kv_head);
    if (shape.sinks_H != nullptr) sink_ = shape.sinks_H[head];
  }

  /// out: [length, K]; log_sum_exp: [length].
  void forward(Rows out, float* log_sum_exp) const {
    std::vector<float> scores(kTileQueries * length_);
    for (int64_t begin = 0; begin < length_; begin += kTileQueries) {
      const Tile tile = tile_at(begin);
      find_scores(tile, scores.data());
      for (int64_t query = tile.begin; query < tile.end; ++query) {
        float* row = scores.data() + (query - tile.begin) * tile.num_keys();
        const auto [first, end] = seen_by(tile, query);
        std::fill(row, row + first, 0.0f);
        std::fill(row + end, row + tile.num_keys(), 0.0f);
        log_sum_exp[query] = float_kernels().capped_softmax(row + first, end - first, cap(), sink_);
      }
      multiply({out.at(tile.begin), out.stride}, tile.num_queries(), shape_.head_dim, {scores.data(), tile.num_keys()},
               {{v_.at(tile.first_key), v_.stride}}, tile.num_keys(), 1, false);
    }
  }

  struct Gradients {
    Rows dq, dk, dv;  // dk and dv are added to
  };
  /// Returns the gradient of the sink.
  float backward(Rows out, const float* log_sum_exp, Rows dout, const Gradients& gradients) const {
    float dsink = 0;
    const int64_t k = shape_.head_dim;
    std::vector<float> scores(kTileQueries * length_), probabilities(scores), dscores(scores), transposed(scores);
    for (int64_t begin = 0; begin < length_; begin += kTileQueries) {
      const Tile tile = tile_at(begin);
      const int64_t m = tile.num_queries(), n = tile.num_keys();
      find_scores(tile, scores.data());
      multiply({dscores.data(), n}, m, n, {dout.at(tile.begin), dout.stride},
               {{v_.at(tile.first_key), v_.stride}, true}, k, 1, false);
      for (int64_t query = tile.begin; query < tile.end; ++query) {
        const int64_t offset = (query - tile.begin) * n;
        const auto [first, end] = seen_by(tile, query);
        float dot = 0;
        for (int64_t i = 0; i < k; ++i) dot += out.at(query)[i] * dout.at(query)[i];
        for (float* row : {probabilities.data() + offset, dscores.data() + offset}) {
          std::fill(row, row + first, 0.0f);
          std::fill(row + end, row + n, 0.0f);
        }
        float_kernels().capped_softmax_backward(scores.data() + offset + first, probabilities.data() + offset + first,
                                                dscores.data() + offset + first, end - first, cap(), log_sum_exp[query],
                                                dot);
        dsink -= std::exp(sink_ - log_sum_exp[query]) * dot;
      }
      multiply({gradients.dq.at(tile.begin), gradients.dq.stride}, m, k, {dscores.data(), n},
               {{k_.at(tile.first_key), k_.stride}}, n, shape_.scale(), false);
      transpose(dscores.data(), m, n, transposed.data());
      multiply({gradients.dk.at(tile.first_key), gradients.dk.stride}, n, k, {transposed.data(), m},
               {{q_.at(tile.begin), q_.stride}}, m, shape_.scale(), true);
      transpose(probabilities.data(), m, n, transposed.data());
      multiply({gradients.dv.at(tile.first_key), gradients.dv.stride}, n, k, {transposed.data(), m},
               {{dout.at(tile.begin), dout.stride}}, m, 1, true);
    }
    return dsink;
  }

  /// The columns of one head in rows of heads [N, T, heads K].
  Rows columns(const at::Tensor& x_NTC, int64_t text, int64_t head) const {
    return {data_of<float>(x_NTC) + text * x_NTC.size(1) * x_NTC.size(2) + head * shape_.head_dim, x_NTC.size(2)};
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
    multiply({scores, tile.num_keys()}, tile.num_queries(), tile.num_keys(), {q_.at(tile.begin), q_.stride},
             {{k_.at(tile.first_key), k_.stride}, true}, shape_.head_dim, shape_.scale(), false);
  }

  const AttentionShape& shape_;
  int64_t length_;
  Rows q_, k_, v_;
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
                              at::empty({n, h, length}, qkv_NTQ.options())};
  for_heads(shape, n, [&](int64_t text, int64_t head) {
    const TiledHead tiled(shape, qkv_NTQ, text, head);
    tiled.forward(tiled.columns(output.out_NTO, text, head),
                  data_of<float>(output.log_sum_exp_NHT) + (text * h + head) * length);
  });
  return output;
}

at::Tensor tiled_attention_backward(const AttentionShape& shape, const at::Tensor& qkv_NTQ, const TiledOutput& saved,
                                    const at::Tensor& dout_NTO, const at::Tensor& dsinks_H) {
  const int64_t length = qkv_NTQ.size(1), h = shape.num_heads, g = shape.num_kv_heads;
  const at::Tensor dqkv_NTQ = at::zeros(qkv_NTQ.sizes(), qkv_NTQ.options());
  for_heads(shape, qkv_NTQ.size(0), [&](int64_t text, int64_t head) {
    const TiledHead tiled(shape, qkv_NTQ, text, head);
    const int64_t kv_head = head / (h / g);
    const float dsink = tiled.backward(tiled.columns(saved.out_NTO, text, head),
                                       data_of<float>(saved.log_sum_exp_NHT) + (text * h + head) * length,
                                       tiled.columns(dout_NTO, text, head),
                                       {.dq = tiled.columns(dqkv_NTQ, text, head),
                                        .dk = tiled.columns(dqkv_NTQ, text, h + kv_head),
                                        .dv = tiled.columns(dqkv_NTQ, text, h + g + kv_head)});
    if (dsinks_H.defined()) data_of<float>(dsinks_H)[head] += dsink;
  });
  return dqkv_NTQ;
}

}  // namespace plumb
