// Matrix products. Float32 products use FloatKernels::multiply: LibTorch's BLAS packs both factors, makes an extra pass
// over the output, and on processors of another vendor uses only half of the vector registers. Bfloat16 products, and
// all products on processors without AVX2, use LibTorch.
#pragma once

#include <ATen/core/Tensor.h>

namespace plumb {

// a: [rows, depth]; b: [depth, columns]. Runs on the threads of this rank, fastest if the rows of `a` are contiguous;
// then in float32 the bits of a row depend neither on the other rows nor on the number of threads.

/// a b
at::Tensor product(const at::Tensor& a, const at::Tensor& b);

/// out = scale * a b
void matmul_into(at::Tensor out, const at::Tensor& a, const at::Tensor& b, double scale = 1);

/// out += scale * a b
void matmul_accumulate(at::Tensor out, const at::Tensor& a, const at::Tensor& b, double scale = 1);

}  // namespace plumb
