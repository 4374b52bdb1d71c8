// CPU implementation of ExpertOps. Rows are divided among threads; every sum is over one row, in a fixed order.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <cstring>

#include "lib/base/check.hpp"
#include "lib/nn/expert_ops_cuda.hpp"
#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

/// Marks the `count` largest; of equal ones the first, and NaN before all.
void mark_largest(std::span<const float> values, int64_t count, std::vector<bool>& is_marked) {
  is_marked.assign(values.size(), false);
  for (int64_t n = 0; n < count; ++n) {
    int64_t best = -1;
    for (int64_t e = 0; e < std::ssize(values); ++e)
      if (!is_marked[e] && (best < 0 || !(values[e] <= values[best] || std::isnan(values[best])))) best = e;
    is_marked[best] = true;
  }
}

/// Replaces logits by their softmax.
void softmax(std::span<float> values) {
  float most = values[0], sum = 0;
  for (const float z : values) most = std::max(most, z);
  for (float& z : values) sum += z = std::exp(z - most);
  for (float& z : values) z /= sum;
}

/// The chosen probabilities, divided by their sum if the router renormalizes.
void write_weights(const RouterConfig& router, const float* probabilities, const int32_t* experts, float* weights) {
  float sum = 0;
  for (int64_t c = 0; c < router.num_chosen; ++c) sum += weights[c] = probabilities[experts[c]];
  if (router.renormalizes)
    for (int64_t c = 0; c < router.num_chosen; ++c) weights[c] /= sum;
}

Routing route(const at::Tensor& logits_TE, const RouterConfig& router, int64_t num_tokens) {
  const int64_t experts = router.num_experts, chosen = router.num_chosen;
  check(logits_TE.size(1) == experts && chosen >= 1 && chosen <= experts && num_tokens <= logits_TE.size(0),
        "a router has a logit for each expert and chooses at most all");
  Routing routing;
  routing.num_tokens = num_tokens;
  routing.probability_NE = at::empty({num_tokens, experts}, logits_TE.options().dtype(at::kFloat));
  routing.weight_NC = at::empty({num_tokens, chosen}, routing.probability_NE.options());
  routing.expert_NC.resize(num_tokens * chosen);
  with_element_type(logits_TE.scalar_type(), [&]<class T>(T*) {
    const auto& kernels = activation_kernels<T>();
    for_rows(num_tokens, 8 * experts * chosen, [&](int64_t first, int64_t last) {
      std::vector<bool> is_chosen;
      std::vector<T> rounded(chosen);
      for (int64_t t = first; t < last; ++t) {
        const std::span row(data_of<float>(routing.probability_NE) + t * experts, experts);
        int32_t* const expert_C = routing.expert_NC.data() + t * chosen;
        float* const weight_C = data_of<float>(routing.weight_NC) + t * chosen;
        kernels.to_float(data_of<T>(logits_TE) + t * experts, row.data(), experts);
        mark_largest(row, chosen, is_chosen);
        for (int32_t e = 0, c = 0; e < experts; ++e)
          if (is_chosen[e]) expert_C[c++] = e;
        softmax(row);
        write_weights(router, row.data(), expert_C, weight_C);
        if (!router.rounds_weights) continue;
        kernels.from_float(weight_C, rounded.data(), chosen);
        kernels.to_float(rounded.data(), weight_C, chosen);
      }
    });
  });
  group_by_expert(experts, chosen, routing);
  return routing;
}

at::Tensor route_backward(const Routing& routing, const RouterConfig& router, const at::Tensor& weighted_NC,
                          std::span<const double> dprobability_E, const at::Tensor& logits_like_TE) {
  const int64_t experts = router.num_experts, chosen = router.num_chosen;
  at::Tensor dlogits = at::zeros_like(logits_like_TE);
  with_element_type(dlogits.scalar_type(), [&]<class T>(T*) {
    for_rows(routing.num_tokens, 8 * experts, [&](int64_t first, int64_t last) {
      std::vector<float> dz(experts), weights(chosen);
      for (int64_t t = first; t < last; ++t) {
        const float* const p = data_of<float>(routing.probability_NE) + t * experts;
        const float* const weighted = data_of<float>(weighted_NC) + t * chosen;
        const int32_t* const expert_C = routing.expert_NC.data() + t * chosen;
        float sum = 0;
        for (int64_t c = 0; c < chosen; ++c) sum += weighted[c];
        write_weights(router, p, expert_C, weights.data());
        for (int64_t e = 0; e < experts; ++e) dz[e] = router.renormalizes ? 0.0f : -p[e] * sum;
        for (int64_t c = 0; c < chosen; ++c)
          dz[expert_C[c]] += weighted[c] - (router.renormalizes ? weights[c] * sum : 0.0f);
        if (!dprobability_E.empty()) {
          double mean = 0;
          for (int64_t e = 0; e < experts; ++e) mean += dprobability_E[e] * static_cast<double>(p[e]);
          for (int64_t e = 0; e < experts; ++e) dz[e] += p[e] * static_cast<float>(dprobability_E[e] - mean);
        }
        activation_kernels<T>().from_float(dz.data(), data_of<T>(dlogits) + t * experts, experts);
      }
    });
  });
  return dlogits;
}

at::Tensor gather(const Routing& routing, int64_t expert, const at::Tensor& x_TD, int64_t num_rows, bool is_weighted) {
  const int64_t count = routing.num_rows(expert), dim = x_TD.size(1), chosen = routing.weight_NC.size(1);
  const int32_t* const tokens = routing.token_A.data() + routing.begin_E[expert];
  const int32_t* const slots = routing.slot_A.data() + routing.begin_E[expert];
  at::Tensor rows = at::empty({num_rows, dim}, x_TD.options());
  with_element_type(x_TD.scalar_type(), [&]<class T>(T*) {
    for_rows(count, dim, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const T* const from = data_of<T>(x_TD) + tokens[i] * dim;
        T* const to = data_of<T>(rows) + i * dim;
        if (is_weighted) {
          const float* const weight = data_of<float>(routing.weight_NC) + tokens[i] * chosen + slots[i];
          expert_kernels<T>().weighted_sum(&from, weight, 1, to, dim);
        } else {
          std::memcpy(to, from, dim * sizeof(T));
        }
      }
    });
  });
  if (num_rows > count) rows.narrow(0, count, num_rows - count).zero_();
  return rows;
}

void combine(const Routing& routing, std::span<const at::Tensor> rows_of_expert, bool is_weighted,
             std::span<const WeightedRows> more, const at::Tensor& y) {
  const int64_t dim = y.size(1), chosen = routing.weight_NC.size(1);
  with_element_type(y.scalar_type(), [&]<class T>(T*) {
    for_rows(y.size(0), dim, [&](int64_t first, int64_t last) {
      std::vector<const T*> rows(chosen + more.size());
      std::vector<float> weights(rows.size());
      for (int64_t t = first; t < last; ++t) {
        int64_t count = 0;
        for (int64_t c = 0; c < chosen && t < routing.num_tokens; ++c, ++count) {
          rows[count] =
              data_of<T>(rows_of_expert[routing.expert_NC[t * chosen + c]]) + routing.row_NC[t * chosen + c] * dim;
          weights[count] = is_weighted ? data_of<float>(routing.weight_NC)[t * chosen + c] : 1.0f;
        }
        for (const WeightedRows& term : more) {
          rows[count] = data_of<T>(term.rows_TD) + t * dim;
          weights[count++] = term.weight_T.defined() ? data_of<float>(term.weight_T)[t] : 1.0f;
        }
        expert_kernels<T>().weighted_sum(rows.data(), weights.data(), count, data_of<T>(y) + t * dim, dim);
      }
    });
  });
}

at::Tensor scale_rows(const at::Tensor& x_TD, const at::Tensor& weight_T) {
  const int64_t dim = x_TD.size(1);
  at::Tensor y = at::empty_like(x_TD);
  with_element_type(y.scalar_type(), [&]<class T>(T*) {
    for_rows(y.size(0), dim, [&](int64_t first, int64_t last) {
      for (int64_t t = first; t < last; ++t) {
        const T* const from = data_of<T>(x_TD) + t * dim;
        expert_kernels<T>().weighted_sum(&from, data_of<float>(weight_T) + t, 1, data_of<T>(y) + t * dim, dim);
      }
    });
  });
  return y;
}

at::Tensor row_dots(const at::Tensor& a_RD, const at::Tensor& b_RD) {
  const int64_t dim = a_RD.size(1), b_stride = b_RD.dim() == 1 || b_RD.size(0) == 1 ? 0 : dim;
  at::Tensor dots = at::empty({a_RD.size(0)}, a_RD.options().dtype(at::kFloat));
  with_element_type(a_RD.scalar_type(), [&]<class T>(T*) {
    for_rows(a_RD.size(0), dim, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        data_of<float>(dots)[i] =
            expert_kernels<T>().dot(data_of<T>(a_RD) + i * dim, data_of<T>(b_RD) + i * b_stride, dim);
    });
  });
  return dots;
}

at::Tensor clamped_swiglu(const at::Tensor& gate_up, ClampedSwiglu shape) {
  at::Tensor y = at::empty({gate_up.size(0), gate_up.size(1) / 2}, gate_up.options());
  with_element_type(y.scalar_type(), [&]<class T>(T*) {
    const int64_t columns = y.size(1);
    for_rows(y.size(0), columns, [&](int64_t first, int64_t last) {
      expert_kernels<T>().clamped_swiglu(data_of<T>(gate_up) + first * 2 * columns, data_of<T>(y) + first * columns,
                                         last - first, columns, shape);
    });
  });
  return y;
}

at::Tensor clamped_swiglu_backward(const at::Tensor& dy, const at::Tensor& gate_up, ClampedSwiglu shape) {
  at::Tensor y = at::empty_like(dy);
  with_element_type(dy.scalar_type(), [&]<class T>(T*) {
    const int64_t columns = dy.size(1);
    for_rows(dy.size(0), columns, [&](int64_t first, int64_t last) {
      T* const rows = data_of<T>(gate_up) + first * 2 * columns;
      expert_kernels<T>().clamped_swiglu_backward(data_of<T>(dy) + first * columns, rows, rows,
                                                  data_of<T>(y) + first * columns, last - first, columns, shape);
    });
  });
  return y;
}

constexpr ExpertOps kCpuExpertOps = {.route = route,
                                     .route_backward = route_backward,
                                     .gather = gather,
                                     .combine = combine,
                                     .scale_rows = scale_rows,
                                     .row_dots = row_dots,
                                     .clamped_swiglu = clamped_swiglu,
                                     .clamped_swiglu_backward = clamped_swiglu_backward};

}  // namespace

void group_by_expert(int64_t num_experts, int64_t num_chosen, Routing& routing) {
  const size_t count = routing.expert_NC.size();
  routing.begin_E.assign(num_experts + 1, 0);
  for (const int32_t expert : routing.expert_NC) ++routing.begin_E[expert + 1];
  for (int64_t e = 0; e < num_experts; ++e) routing.begin_E[e + 1] += routing.begin_E[e];
  routing.row_NC.resize(count);
  routing.token_A.resize(count);
  routing.slot_A.resize(count);
  std::vector<int64_t> next(routing.begin_E.begin(), routing.begin_E.end() - 1);
  for (size_t i = 0; i < count; ++i) {
    const int32_t expert = routing.expert_NC[i];
    const int64_t place = next[expert]++;
    routing.row_NC[i] = static_cast<int32_t>(place - routing.begin_E[expert]);
    routing.token_A[place] = static_cast<int32_t>(static_cast<int64_t>(i) / num_chosen);
    routing.slot_A[place] = static_cast<int32_t>(static_cast<int64_t>(i) % num_chosen);
  }
}

const ExpertOps& expert_ops_of(const at::Tensor& tensor) {
  return tensor.device().is_cpu() ? kCpuExpertOps : cuda_expert_ops();
}

}  // namespace plumb
