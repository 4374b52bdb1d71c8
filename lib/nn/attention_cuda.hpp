// attention.hpp for CUDA tensors, by LibTorch's flash attention (flash_attention.hpp). Builds without CUDA have
// attention_no_cuda.cpp instead of attention_cuda.cpp, which throws std::logic_error.
#pragma once

#include "lib/nn/attention.hpp"

namespace plumb {

/// As attention_forward() and attention_backward(); rows after the last document are zero. Throws UsageError by name
/// for what the operator cannot: float32, capped scores, heads that are not multiples of 8 up to 256.
void attention_forward_cuda(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                            const at::Tensor& out, AttentionActivations& saved);
void attention_backward_cuda(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                             const AttentionActivations& saved, const at::Tensor& dout, const at::Tensor& dqkv,
                             const at::Tensor& dsinks_H);

}  // namespace plumb
