// CUDA implementation of ExpertOps. Which expert has which token is known on the host, because each expert's product
// needs its number of rows: routing waits for the device, and the other functions copy what they need of it.
#include "lib/nn/expert_ops_cuda.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include "lib/base/check.hpp"
#include "lib/kernels/cuda/kernels.hpp"
#include "lib/nn/compute_stream.hpp"
#include "lib/nn/device_copy.hpp"
#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

cuda::RouterShape shape_of(const RouterConfig& router, int64_t num_tokens) {
  return {num_tokens, router.num_experts, router.num_chosen, router.renormalizes, router.rounds_weights};
}

Routing route(const at::Tensor& logits, const RouterConfig& router, int64_t num_tokens) {
  check(logits.size(1) == router.num_experts && num_tokens <= logits.size(0), "a router has a logit for each expert");
  Routing routing;
  routing.num_tokens = num_tokens;
  routing.probability_NE = at::empty({num_tokens, router.num_experts}, logits.options().dtype(at::kFloat));
  routing.weight_NC = at::empty({num_tokens, router.num_chosen}, routing.probability_NE.options());
  const at::Tensor expert_NC = at::empty({num_tokens, router.num_chosen}, logits.options().dtype(at::kInt));
  with_element_type(logits.scalar_type(), [&]<class T>(T*) {
    cuda::route(shape_of(router, num_tokens), data_of<T>(logits), data_of<float>(routing.probability_NE),
                data_of<float>(routing.weight_NC), data_of<int32_t>(expert_NC), compute_stream());
  });
  const at::Tensor on_host = expert_NC.cpu();
  routing.expert_NC.assign(data_of<int32_t>(on_host), data_of<int32_t>(on_host) + on_host.numel());
  group_by_expert(router.num_experts, router.num_chosen, routing);
  return routing;
}

at::Tensor route_backward(const Routing& routing, const RouterConfig& router, const at::Tensor& weighted_NC,
                          std::span<const double> dprobability_E, const at::Tensor& logits_like_TE) {
  at::Tensor dlogits = at::zeros_like(logits_like_TE);
  const at::Tensor expert = on_device_of(dlogits, routing.expert_NC);
  at::Tensor dprobability;
  if (!dprobability_E.empty()) dprobability = on_device_of(dlogits, dprobability_E.data(), std::ssize(dprobability_E));
  with_element_type(dlogits.scalar_type(), [&]<class T>(T*) {
    cuda::route_backward(shape_of(router, routing.num_tokens), data_of<float>(routing.probability_NE),
                         data_of<int32_t>(expert), data_of<float>(weighted_NC), data_of<double>(dprobability),
                         data_of<T>(dlogits), compute_stream());
  });
  return dlogits;
}

at::Tensor gather(const Routing& routing, int64_t expert, const at::Tensor& x, int64_t num_rows, bool is_weighted) {
  const int64_t begin = routing.begin_E[expert], count = routing.num_rows(expert);
  const at::Tensor token = on_device_of(x, routing.token_A.data() + begin, count),
                   slot = on_device_of(x, routing.slot_A.data() + begin, count);
  at::Tensor rows = at::empty({num_rows, x.size(1)}, x.options());
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    cuda::gather_expert_rows(data_of<T>(x), data_of<int32_t>(token), data_of<int32_t>(slot),
                             is_weighted ? data_of<float>(routing.weight_NC) : nullptr, routing.weight_NC.size(1),
                             count, data_of<T>(rows), num_rows, x.size(1), compute_stream());
  });
  return rows;
}

void combine(const Routing& routing, std::span<const at::Tensor> rows_of_expert, bool is_weighted,
             std::span<const WeightedRows> more, const at::Tensor& y) {
  check(std::ssize(more) <= cuda::kMaxTerms, "a token has few terms beside those of its experts");
  const at::Tensor expert = on_device_of(y, routing.expert_NC), row = on_device_of(y, routing.row_NC);
  with_element_type(y.scalar_type(), [&]<class T>(T*) {
    std::vector<const T*> pointers;
    for (const at::Tensor& rows : rows_of_expert) pointers.push_back(data_of<T>(rows));
    const at::Tensor device_pointers = on_device_of(y, pointers);
    cuda::CombinedRows<T> rows = {routing.num_tokens,
                                  routing.weight_NC.size(1),
                                  data_of<const T*>(device_pointers),
                                  data_of<int32_t>(expert),
                                  data_of<int32_t>(row),
                                  is_weighted ? data_of<float>(routing.weight_NC) : nullptr,
                                  static_cast<int>(more.size()),
                                  {}};
    for (size_t i = 0; i < more.size(); ++i)
      rows.terms[i] = {data_of<T>(more[i].rows_TD), data_of<float>(more[i].weight_T)};
    cuda::combine_rows(rows, data_of<T>(y), y.size(0), y.size(1), compute_stream());
  });
}

at::Tensor scale_rows(const at::Tensor& x, const at::Tensor& weight) {
  at::Tensor y = at::empty_like(x);
  with_element_type(y.scalar_type(), [&]<class T>(T*) {
    cuda::scale_rows(data_of<T>(x), data_of<float>(weight), data_of<T>(y), y.size(0), y.size(1), compute_stream());
  });
  return y;
}

at::Tensor row_dots(const at::Tensor& a, const at::Tensor& b) {
  const int64_t b_stride = b.dim() == 1 || b.size(0) == 1 ? 0 : a.size(1);
  at::Tensor dots = at::empty({a.size(0)}, a.options().dtype(at::kFloat));
  with_element_type(a.scalar_type(), [&]<class T>(T*) {
    cuda::row_dots(data_of<T>(a), data_of<T>(b), b_stride, data_of<float>(dots), a.size(0), a.size(1),
                   compute_stream());
  });
  return dots;
}

at::Tensor clamped_swiglu(const at::Tensor& gate_up, ClampedSwiglu shape) {
  at::Tensor y = at::empty({gate_up.size(0), gate_up.size(1) / 2}, gate_up.options());
  with_element_type(y.scalar_type(), [&]<class T>(T*) {
    cuda::clamped_swiglu(data_of<T>(gate_up), data_of<T>(y), y.size(0), y.size(1), shape, compute_stream());
  });
  return y;
}

at::Tensor clamped_swiglu_backward(const at::Tensor& dy, const at::Tensor& gate_up, ClampedSwiglu shape) {
  at::Tensor y = at::empty_like(dy);
  with_element_type(dy.scalar_type(), [&]<class T>(T*) {
    T* const rows = data_of<T>(gate_up);
    cuda::clamped_swiglu_backward(data_of<T>(dy), rows, rows, data_of<T>(y), dy.size(0), dy.size(1), shape,
                                  compute_stream());
  });
  return y;
}

constexpr ExpertOps kCudaExpertOps = {.route = route,
                                      .route_backward = route_backward,
                                      .gather = gather,
                                      .combine = combine,
                                      .scale_rows = scale_rows,
                                      .row_dots = row_dots,
                                      .clamped_swiglu = clamped_swiglu,
                                      .clamped_swiglu_backward = clamped_swiglu_backward};

}  // namespace

const ExpertOps& cuda_expert_ops() { return kCudaExpertOps; }

}  // namespace plumb
