#include "lib/model/nf4_tensor.hpp"

#include <ATen/Parallel.h>

#include "lib/base/check.hpp"

namespace plumb {

void nf4_dequantize(const Nf4View& matrix, int64_t begin, const at::Tensor& out) {
  constexpr int64_t kGrainElements = 1 << 16;  // some ten microseconds of one thread
  check(out.is_contiguous() && (out.scalar_type() == at::kFloat || out.scalar_type() == at::kBFloat16),
        "a matrix is dequantised to contiguous float32 or bfloat16");
  at::parallel_for(0, out.numel(), kGrainElements, [&](int64_t first, int64_t last) {
    const auto count = static_cast<size_t>(last - first);
    if (out.scalar_type() == at::kFloat)
      nf4_dequantize(matrix, begin + first, std::span(static_cast<float*>(out.data_ptr()) + first, count));
    else
      nf4_dequantize_bf16(matrix, begin + first, std::span(static_cast<uint16_t*>(out.data_ptr()) + first, count));
  });
}

}  // namespace plumb
