#include "lib/nn/tensor_ops.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
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

namespace {
std::span<const int64_t> indices(const at::Tensor& rows) {
  return {rows.const_data_ptr<int64_t>(), static_cast<size_t>(rows.size(0))};
}
}  // namespace

at::Tensor take_rows(const at::Tensor& x_VC, std::span<const int64_t> rows) {
  at::Tensor taken = at::empty({std::ssize(rows), x_VC.size(1)}, x_VC.options());
  ops_of(x_VC).take_rows(x_VC, rows, taken);
  return taken;
}

at::Tensor gather_rows(const at::Tensor& x_RC, const at::Tensor& rows) {
  if (!rows.defined()) return x_RC;
  const int64_t padded = ops_of(x_RC).round_up_rows(rows.size(0), x_RC.element_size());
  at::Tensor gathered = at::empty({padded, x_RC.size(1)}, x_RC.options());
  ops_of(x_RC).take_rows(x_RC, indices(rows), gathered);
  return gathered;
}

at::Tensor scatter_rows(const at::Tensor& gathered, const at::Tensor& rows, int64_t num_rows) {
  if (!rows.defined()) return gathered;
  at::Tensor scattered = at::zeros({num_rows, gathered.size(1)}, gathered.options());
  ops_of(gathered).put_rows(gathered, indices(rows), scattered);
  return scattered;
}

at::Tensor as_tensor(std::span<const int64_t> values) {
  return at::from_blob(const_cast<int64_t*>(values.data()), {std::ssize(values)}, at::TensorOptions().dtype(at::kLong));
}

}  // namespace plumb
