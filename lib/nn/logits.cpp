#include "lib/nn/logits.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/tanh.h>

namespace plumb {

void cap_logits(const at::Tensor& logits, const LogitConfig& config) {
  if (config.cap == 0) return;
  // in float32, so that bfloat16 logits are rounded once
  logits.copy_(at::tanh(logits.to(at::kFloat) / config.cap).mul_(config.cap));
}

void logits_backward(const at::Tensor& dlogits, const at::Tensor& logits, const LogitConfig& config) {
  if (config.cap != 0) {
    const at::Tensor ratio = logits.to(at::kFloat) / config.cap;
    dlogits.copy_(dlogits.to(at::kFloat) * (1 - ratio * ratio) * config.scale);
  } else if (config.scale != 1) {
    dlogits.mul_(config.scale);
  }
}

}  // namespace plumb
