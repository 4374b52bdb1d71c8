// Implementation of kernels.hpp, compiled once per instruction set with PLUMB_ISA as the namespace.
#include <cmath>
#include <cstring>

#include "lib/kernels/kernels.hpp"
#include "lib/kernels/lane_math.hpp"
#include "lib/kernels/row_memory.hpp"

namespace plumb::PLUMB_ISA {

void multiply(const FloatProduct& product);  // in multiply_isa.cpp

namespace {

/// An activation and its derivative at one point.
struct Activated {
  Floats value, slope;
};
struct Silu {
  static Floats value(Floats x) { return x * sigmoid_of(x); }
  static Activated both(Floats x) {
    const Floats sigmoid = sigmoid_of(x), silu = x * sigmoid;
    return {silu, sigmoid + silu * (1.0f - sigmoid)};
  }
};
/// x (1 + tanh(u)) / 2 with u = c (x + 0.044715 x^3), which is x sigmoid(2 u).
struct GeluTanh {
  static constexpr float kTwoC = 2 * 0.7978845608028654f, kCubic = 0.044715f;
  static Floats value(Floats x) { return x * sigmoid_of(kTwoC * (x + kCubic * x * x * x)); }
  static Activated both(Floats x) {
    const Floats sigmoid = sigmoid_of(kTwoC * (x + kCubic * x * x * x));
    return {x * sigmoid, sigmoid + x * sigmoid * (1.0f - sigmoid) * (kTwoC * (1.0f + 3 * kCubic * x * x))};
  }
};

template <class T>
void rms_norm(const T* x, const T* residual, T* sum, NormWeight<T> norm, T* y, float* rstd, int64_t num_rows,
              int64_t dim, float epsilon) {
  for (int64_t row = 0; row < num_rows; ++row, x += dim, y += dim) {
    const T* in = x;
    Floats squares{};
    if (residual) {
      for_lanes(dim, [&](auto get, auto put, int64_t i) {
        put(sum + i, get(x + i) + get(residual + i));
        const Floats rounded = get(sum + i);
        squares += rounded * rounded;
      });
      in = sum;
      residual += dim;
      sum += dim;
    } else {
      for_lanes(dim, [&](auto get, auto, int64_t i) { squares += get(x + i) * get(x + i); });
    }
    const float scale = 1.0f / std::sqrt(sum_lanes(squares) / static_cast<float>(dim) + epsilon);
    rstd[row] = scale;
    for_lanes(dim, [&](auto get, auto put, int64_t i) {
      put(y + i, get(in + i) * scale * (norm.offset + get(norm.weight + i)));
    });
  }
}

template <class T>
void recompute_rms_norm(const T* x, const float* rstd, NormWeight<T> norm, T* y, int64_t num_rows, int64_t dim) {
  for (int64_t row = 0; row < num_rows; ++row, x += dim, y += dim) {
    const float scale = rstd[row];
    for_lanes(dim, [&](auto get, auto put, int64_t i) {
      put(y + i, get(x + i) * scale * (norm.offset + get(norm.weight + i)));
    });
  }
}

template <class T>
void rms_norm_backward(const T* dy, const T* x, const float* rstd, NormWeight<T> norm, const T* carry, T* dx,
                       float* dweight, int64_t num_rows, int64_t dim) {
  for (int64_t row = 0; row < num_rows; ++row, dy += dim, x += dim, dx += dim) {
    const float scale = rstd[row];
    Floats dots{};
    for_lanes(dim, [&](auto get, auto put, int64_t i) {
      const Floats normed = get(x + i) * scale, d = get(dy + i);
      dots += d * (norm.offset + get(norm.weight + i)) * normed;
      put(dweight + i, get(dweight + i) + d * normed);
    });
    const float mean = sum_lanes(dots) / static_cast<float>(dim);
    for_lanes(dim, [&](auto get, auto put, int64_t i) {
      Floats d = (get(dy + i) * (norm.offset + get(norm.weight + i)) - get(x + i) * scale * mean) * scale;
      if (carry) d += get(carry + i);
      put(dx + i, d);
    });
    if (carry) carry += dim;
  }
}

template <class T>
void write_layer_norm(const T* x, const float* stats, NormWeight<T> norm, T* y, int64_t dim) {
  const float mean = stats[0], rstd = stats[1];
  for_lanes(dim, [&](auto get, auto put, int64_t i) {
    Floats value = (get(x + i) - mean) * rstd * get(norm.weight + i);
    if (norm.bias) value += get(norm.bias + i);
    put(y + i, value);
  });
}

template <class T>
void layer_norm(const T* x, NormWeight<T> norm, T* y, float* stats, int64_t num_rows, int64_t dim, float epsilon) {
  const auto n = static_cast<float>(dim);
  for (int64_t row = 0; row < num_rows; ++row, x += dim, y += dim, stats += 2) {
    Floats sums{}, squares{};
    for_lanes(dim, [&](auto get, auto, int64_t i) { sums += get(x + i); });
    const float mean = sum_lanes(sums) / n;
    for_lanes(dim, [&](auto get, auto, int64_t i) {
      const Floats centered = get(x + i, mean) - mean;
      squares += centered * centered;
    });
    stats[0] = mean;
    stats[1] = 1.0f / std::sqrt(sum_lanes(squares) / n + epsilon);
    write_layer_norm(x, stats, norm, y, dim);
  }
}

template <class T>
void recompute_layer_norm(const T* x, const float* stats, NormWeight<T> norm, T* y, int64_t num_rows, int64_t dim) {
  for (int64_t row = 0; row < num_rows; ++row)
    write_layer_norm(x + row * dim, stats + 2 * row, norm, y + row * dim, dim);
}

template <class T>
void layer_norm_backward(const T* dy, const T* x, const float* stats, NormWeight<T> norm, const T* carry, T* dx,
                         float* dweight, float* dbias, int64_t num_rows, int64_t dim) {
  const auto n = static_cast<float>(dim);
  for (int64_t row = 0; row < num_rows; ++row, dy += dim, x += dim, dx += dim, stats += 2) {
    const float mean = stats[0], rstd = stats[1];
    Floats sums{}, dots{};
    for_lanes(dim, [&](auto get, auto put, int64_t i) {
      const Floats normed = (get(x + i) - mean) * rstd, d = get(dy + i), dnormed = d * get(norm.weight + i);
      sums += dnormed;
      dots += dnormed * normed;
      put(dweight + i, get(dweight + i) + d * normed);
      if (dbias) put(dbias + i, get(dbias + i) + d);
    });
    const float mean_of_gradient = sum_lanes(sums) / n, mean_of_dots = sum_lanes(dots) / n;
    for_lanes(dim, [&](auto get, auto put, int64_t i) {
      const Floats normed = (get(x + i) - mean) * rstd;
      Floats d = (get(dy + i) * get(norm.weight + i) - mean_of_gradient - normed * mean_of_dots) * rstd;
      if (carry) d += get(carry + i);
      put(dx + i, d);
    });
    if (carry) carry += dim;
  }
}

/// The pairs of a head are neighbors: one at a time, since only few families have them.
template <class T>
void rotate_neighbors(T* x, const float* cos, const float* sin, float direction, int64_t num_pairs) {
  for (int64_t i = 0; i < num_pairs; ++i, x += 2) {
    const float c = cos[i], s = sin[i] * direction;
    const float p = load_some(x, 1)[0], q = load_some(x + 1, 1)[0];
    store_some(x, broadcast(p * c - q * s), 1);
    store_some(x + 1, broadcast(q * c + p * s), 1);
  }
}

template <class T>
void rope(const RopeRows<T>& rows, const float* cos_of_positions, const float* sin_of_positions, float direction) {
  const int64_t half = rows.rotated_dim / 2;
  for (int64_t row = 0; row < rows.num_rows; ++row) {
    const float* cos = cos_of_positions + rows.positions[row] * half;
    const float* sin = sin_of_positions + rows.positions[row] * half;
    for (int64_t head = 0; head < rows.num_heads; ++head) {
      T* a = rows.x + row * rows.row_stride + head * rows.head_dim;
      T* b = a + half;
      if (rows.is_interleaved) {
        rotate_neighbors(a, cos, sin, direction, half);
        continue;
      }
      for_lanes(half, [&](auto get, auto put, int64_t i) {
        const Floats c = get(cos + i), s = get(sin + i) * direction, p = get(a + i), q = get(b + i);
        put(a + i, p * c - q * s);
        put(b + i, q * c + p * s);
      });
    }
  }
}

template <class T, class Activation>
void gated(const T* gate_up, T* y, int64_t num_rows, int64_t dim) {
  for (int64_t row = 0; row < num_rows; ++row, gate_up += 2 * dim, y += dim)
    for_lanes(dim, [&](auto get, auto put, int64_t i) {
      put(y + i, Activation::value(get(gate_up + i)) * get(gate_up + dim + i));
    });
}

template <class T, class Activation>
void gated_backward(const T* dy, const T* gate_up, T* dgate_up, T* y, int64_t num_rows, int64_t dim) {
  for (int64_t row = 0; row < num_rows; ++row, gate_up += 2 * dim, dgate_up += 2 * dim, y += dim, dy += dim)
    for_lanes(dim, [&](auto get, auto put, int64_t i) {
      const Floats gate = get(gate_up + i), up = get(gate_up + dim + i), d = get(dy + i);
      const Activated activated = Activation::both(gate);
      put(y + i, activated.value * up);
      put(dgate_up + i, d * up * activated.slope);
      put(dgate_up + dim + i, d * activated.value);
    });
}

template <class T, class Activation>
void activated(const T* x, T* y, int64_t num_rows, int64_t dim) {
  for_lanes(num_rows * dim, [&](auto get, auto put, int64_t i) { put(y + i, Activation::value(get(x + i))); });
}

template <class T, class Activation>
void activated_backward(const T* dy, const T* x, T* dx, T* y, int64_t num_rows, int64_t dim) {
  for_lanes(num_rows * dim, [&](auto get, auto put, int64_t i) {
    const Floats d = get(dy + i);
    const Activated activated = Activation::both(get(x + i));
    put(y + i, activated.value);
    put(dx + i, d * activated.slope);
  });
}

template <class T>
void cross_entropy(T* logits, const int64_t* labels, int64_t num_rows, int64_t vocab, TokenLoss token_loss,
                   const float* gradient_scales, TokenStats* stats) {
  constexpr float kLowest = -3.0e38f;
  for (int64_t row = 0; row < num_rows; ++row, logits += vocab) {
    const float gradient_scale = gradient_scales ? gradient_scales[row] : 0.0f;
    Floats mosts = broadcast(kLowest), sums{}, poison{};
    for_lanes(vocab, [&](auto get, auto, int64_t i) {
      const Floats x = get(logits + i, kLowest);
      mosts = max_of(mosts, x);
      sums += get(logits + i);
      poison += x * 0.0f;  // propagates NaN and infinity, which comparisons drop
    });
    const float most = max_lanes(mosts);
    const float label_logit = load_some(logits + labels[row], 1)[0];
    bool is_correct = label_logit == most;
    for (int64_t i = 0; is_correct && i < labels[row]; ++i)  // ties: the first of equal logits is the prediction
      if (load_some(logits + i, 1)[0] == most) is_correct = false;
    float* const e_of_row = row_of_floats(logits, vocab);
    Floats exps{}, weighted{}, squares{};
    for_lanes(vocab, [&](auto get, auto put, int64_t i) {
      const Floats centered = max_of(get(logits + i, kLowest) - most, broadcast(-1.0e4f));
      const Floats e = exp_of(centered);
      exps += e;
      weighted += e * centered;
      squares += e * e;
      if (gradient_scale != 0) put(e_of_row + i, e);
    });
    const float total = sum_lanes(exps);
    const float log_total = std::log(total);
    const float log_probability = label_logit - most - log_total;
    const float probability = std::exp(log_probability);
    const bool is_dft = token_loss == TokenLoss::kDft;
    stats[row] = {is_dft ? -probability * log_probability : -log_probability,
                  log_probability,
                  log_total - sum_lanes(weighted) / total,
                  is_correct,
                  sum_lanes(sums) / static_cast<float>(vocab),
                  std::log(sum_lanes(squares)) - 2 * log_total};
    if (!std::isfinite(sum_lanes(poison))) stats[row].loss = std::nanf("");
    if (!gradient_scales) continue;
    if (gradient_scale == 0) {
      std::memset(logits, 0, vocab * sizeof(T));
      continue;
    }
    const float scale = is_dft ? gradient_scale * probability : gradient_scale;
    const float share = scale / total;
    for_lanes(vocab, [&](auto get, auto put, int64_t i) { put(logits + i, get(e_of_row + i) * share); });
    T* label = logits + labels[row];
    const Floats at_label = broadcast((probability - 1.0f) * scale);
    store_some(label, at_label, 1);
  }
}

template <class T>
void to_float(const T* x, float* y, int64_t n) {
  for_lanes(n, [&](auto get, auto put, int64_t i) { put(y + i, get(x + i)); });
}
template <class T>
void from_float(const float* x, T* y, int64_t n) {
  for_lanes(n, [&](auto get, auto put, int64_t i) { put(y + i, get(x + i)); });
}
template <class T>
void add_to_float(const T* x, float* y, int64_t n) {
  for_lanes(n, [&](auto get, auto put, int64_t i) { put(y + i, get(y + i) + get(x + i)); });
}

void add(const float* a, const float* b, float* y, int64_t n) {
  for_lanes(n, [&](auto get, auto put, int64_t i) { put(y + i, get(a + i) + get(b + i)); });
}

inline Floats sqrt_of(Floats x) {
  for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

void adamw(float* parameter, const float* gradient, float* moment1, float* moment2, int64_t n, AdamWStep s) {
  const float decay = 1.0f - s.learning_rate * s.weight_decay, rate = s.learning_rate / s.bias_correction1;
  for_lanes(n, [&](auto get, auto put, int64_t i) {
    const Floats g = get(gradient + i) * s.gradient_scale;
    const Floats m = get(moment1 + i) + (1.0f - s.beta1) * (g - get(moment1 + i));
    const Floats v = get(moment2 + i) * s.beta2 + (1.0f - s.beta2) * g * g;
    put(moment1 + i, m);
    put(moment2 + i, v);
    put(parameter + i, get(parameter + i) * decay - rate * m / (sqrt_of(v) / s.bias_correction2_sqrt + s.epsilon));
  });
}

double sum_of_squares(const float* x, int64_t n) {
  double sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += static_cast<double>(x[i + lane]) * x[i + lane];
  for (; i < n; ++i) sums[0] += static_cast<double>(x[i]) * x[i];
  double sum = 0;
  for (double lane : sums) sum += lane;
  return sum;
}

float largest_magnitude(const float* x, int64_t n) {
  Floats mosts{};
  for_lanes(n, [&](auto get, auto, int64_t i) {
    const Floats value = get(x + i);
    mosts = max_of(max_of(value, -value), mosts);
  });
  return max_lanes(mosts);
}

/// tanh: a polynomial near zero, where the formula with exp loses digits.
inline Floats tanh_of(Floats x) {
  const Floats square = x * x;
  const Floats small =
      x * (1.0f + square * (-1.0f / 3 + square * (2.0f / 15 + square * (-17.0f / 315 + square * (62.0f / 2835)))));
  const Floats large = 2.0f * sigmoid_of(2.0f * x) - 1.0f;
  return square < 0.0625f ? small : large;
}

float capped_softmax(float* scores, int64_t n, float cap, float sink) {
  Floats mosts = broadcast(sink);
  for_lanes(n, [&](auto get, auto put, int64_t i) {
    if (cap > 0) put(scores + i, cap * tanh_of(get(scores + i) / cap));
    mosts = max_of(mosts, get(scores + i, -3.0e38f));
  });
  const float most = max_lanes(mosts);
  Floats sums{};
  for_lanes(n, [&](auto get, auto put, int64_t i) {
    const Floats e = exp_of(max_of(get(scores + i, -3.0e38f) - most, broadcast(-1.0e4f)));
    sums += e;
    put(scores + i, e);
  });
  const float total = sum_lanes(sums) + std::exp(sink - most), share = 1.0f / total;
  for_lanes(n, [&](auto get, auto put, int64_t i) { put(scores + i, get(scores + i) * share); });
  return most + std::log(total);
}

void capped_softmax_backward(const float* scores, float* probabilities, float* gradients, int64_t n, float cap,
                             float log_sum_exp, float output_dot_gradient) {
  for_lanes(n, [&](auto get, auto put, int64_t i) {
    Floats score = get(scores + i), slope = broadcast(1.0f);
    if (cap > 0) {
      const Floats t = tanh_of(score / cap);
      score = cap * t;
      slope = 1.0f - t * t;
    }
    const Floats p = exp_of(score - log_sum_exp);
    put(probabilities + i, p);
    put(gradients + i, p * (get(gradients + i) - output_dot_gradient) * slope);
  });
}

template <class T>
constexpr ActivationKernels<T> kTable = {
    .rms_norm = &rms_norm<T>,
    .recompute_rms_norm = &recompute_rms_norm<T>,
    .rms_norm_backward = &rms_norm_backward<T>,
    .layer_norm = &layer_norm<T>,
    .recompute_layer_norm = &recompute_layer_norm<T>,
    .layer_norm_backward = &layer_norm_backward<T>,
    .rope = &rope<T>,
    .swiglu = {&gated<T, Silu>, &gated_backward<T, Silu>},
    .geglu = {&gated<T, GeluTanh>, &gated_backward<T, GeluTanh>},
    .gelu = {&activated<T, GeluTanh>, &activated_backward<T, GeluTanh>},
    .cross_entropy = &cross_entropy<T>,
    .to_float = &to_float<T>,
    .from_float = &from_float<T>,
    .add_to_float = &add_to_float<T>,
};

}  // namespace

extern const ActivationKernels<float> kFloatActivationKernels = kTable<float>;
extern const ActivationKernels<BFloat16> kBFloat16ActivationKernels = kTable<BFloat16>;
extern const FloatKernels kFloatKernels = {
    &add, &adamw, &sum_of_squares, &largest_magnitude, &capped_softmax, &capped_softmax_backward, &multiply};

}  // namespace plumb::PLUMB_ISA
