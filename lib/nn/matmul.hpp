// Matrix products. Float32 products use FloatKernels::multiply: LibTorch's BLAS packs both factors, makes an extra pass
// over the output, and on processors of another vendor uses only half of the vector registers. Bfloat16 products use
// PairKernels, which add to float32 without another pass. What the processor has no kernel for uses LibTorch, and so do
// float32 products whose first factor is transposed. Products of CUDA tensors are in product_cuda.hpp.
#pragma once

#include <ATen/core/Tensor.h>

namespace plumb {

// a: [rows, depth]; b: [depth, columns], both float32 or both bfloat16. Runs on the threads of this rank. The bits of a
// row depend neither on the other rows nor on the number of threads, except where LibTorch or a GPU computes it.

/// Whether products of bfloat16 factors are computed here, not by LibTorch.
bool has_pair_products();

/// a b
at::Tensor product(const at::Tensor& a, const at::Tensor& b);

// `out` has the type of the factors, or float32.

/// out = scale * a b
void matmul_into(at::Tensor out, const at::Tensor& a, const at::Tensor& b, double scale = 1);

/// out += scale * a b
void matmul_accumulate(at::Tensor out, const at::Tensor& a, const at::Tensor& b, double scale = 1);

/// out = a b + addend. addend: [rows, columns], another tensor than out, or [columns].
void matmul_plus(at::Tensor out, const at::Tensor& a, const at::Tensor& b, const at::Tensor& addend);

}  // namespace plumb
