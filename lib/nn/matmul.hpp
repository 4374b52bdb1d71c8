// Matrix products. In float32 our own (FloatKernels::multiply): LibTorch's library packs both factors, passes over the
// output once more, and uses half of the vector registers of processors that are not its maker's. In bfloat16, and on
// processors without AVX2, LibTorch's.
#pragma once

#include <ATen/core/Tensor.h>

namespace plumb {

// Of a [rows, depth] and b [depth, columns], on the threads of this rank. Fastest if the rows of `a` are contiguous.
// Then in float32 the bits of a row depend neither on the other rows nor on the number of threads.

/// a b
at::Tensor product(const at::Tensor& a, const at::Tensor& b);

/// out = scale * a b
void matmul_into(at::Tensor out, const at::Tensor& a, const at::Tensor& b, double scale = 1);

/// out += scale * a b
void matmul_accumulate(at::Tensor out, const at::Tensor& a, const at::Tensor& b, double scale = 1);

}  // namespace plumb
