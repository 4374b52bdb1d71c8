#include "lib/nn/tensor_ops.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros.h>

#include "lib/nn/tensor_ops_cuda.hpp"

namespace plumb {

const TensorOps& ops_of(at::Device device) { return device.is_cpu() ? cpu_ops() : cuda_ops(); }

at::Tensor empty_norm_stats(const at::Tensor& x_RC, const NormConfig& config) {
  const at::TensorOptions options = x_RC.options().dtype(at::kFloat);
  return config.kind == NormKind::kRms ? at::empty({x_RC.size(0)}, options) : at::empty({x_RC.size(0), 2}, options);
}

Normed normalize(const at::Tensor& x_RC, const Norm& norm) {
  Normed normed = {at::empty_like(x_RC), empty_norm_stats(x_RC, norm.config)};
  ops_of(x_RC).normalize(x_RC, norm, normed.y, normed.stats);
  return normed;
}

at::Tensor gather_rows(const at::Tensor& x_RC, const at::Tensor& rows) {
  if (!rows.defined()) return x_RC;
  const int64_t count = rows.size(0), padded = ops_of(x_RC).round_up_rows(count, x_RC.element_size());
  at::Tensor gathered = at::empty({padded, x_RC.size(1)}, x_RC.options()), first = gathered.narrow(0, 0, count);
  at::index_select_out(first, x_RC, 0, rows);
  if (padded > count) gathered.narrow(0, count, padded - count).zero_();
  return gathered;
}

at::Tensor scatter_rows(const at::Tensor& gathered, const at::Tensor& rows, int64_t num_rows) {
  if (!rows.defined()) return gathered;
  return at::zeros({num_rows, gathered.size(1)}, gathered.options())
      .index_copy_(0, rows, gathered.narrow(0, 0, rows.size(0)));
}

at::Tensor as_tensor(std::span<const int64_t> values) {
  return at::from_blob(const_cast<int64_t*>(values.data()), {std::ssize(values)}, at::TensorOptions().dtype(at::kLong));
}

}  // namespace plumb
