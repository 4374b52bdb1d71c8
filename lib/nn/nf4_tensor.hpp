// A quantized matrix as a tensor again, by all threads.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/model/nf4.hpp"

namespace plumb {

/// Elements [begin, begin + out.numel()) of the matrix into `out`, contiguous, float32 or bfloat16.
void nf4_dequantize(const Nf4View& matrix, int64_t begin, const at::Tensor& out);

}  // namespace plumb
