// The products of matmul.hpp for CUDA tensors. Builds without CUDA have product_no_cuda.cpp instead of
// product_cuda.cpp.
#pragma once

#include <ATen/core/Tensor.h>

namespace plumb {

/// out = scale * a b + addend. a: [rows, depth], b: [depth, columns], both float32 or both bfloat16; out has their type
/// or float32. addend: [rows, columns] (which may be out itself) or [columns], of out's type, or undefined. The bits of
/// a row may depend on the number of rows. Throws std::logic_error in a build without CUDA.
void multiply_cuda(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double scale,
                   const at::Tensor& addend);

class CublasLt;
/// The same, with this library on LibTorch's stream.
void multiply_with(CublasLt& library, const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double scale,
                   const at::Tensor& addend);

}  // namespace plumb
