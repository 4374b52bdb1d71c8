#include "lib/nn/nf4_tensor.hpp"

#include <ATen/Parallel.h>

#include <algorithm>

#include "lib/base/check.hpp"

namespace plumb {

void nf4_dequantize(const Nf4View& matrix, int64_t begin, const at::Tensor& out) {
  constexpr int64_t kBlock = 64, kGrainBlocks = 1 << 10;  // some ten microseconds of one thread
  check(out.is_contiguous() && (out.scalar_type() == at::kFloat || out.scalar_type() == at::kBFloat16),
        "a matrix is dequantized to contiguous float32 or bfloat16");
  const int64_t num_blocks = (out.numel() + kBlock - 1) / kBlock;
  at::parallel_for(0, num_blocks, kGrainBlocks, [&](int64_t first_block, int64_t last_block) {
    const int64_t first = first_block * kBlock;
    const auto count = static_cast<size_t>(std::min(last_block * kBlock, out.numel()) - first);
    if (out.scalar_type() == at::kFloat)
      nf4_dequantize(matrix, begin + first, std::span(static_cast<float*>(out.data_ptr()) + first, count));
    else
      nf4_dequantize_bf16(matrix, begin + first, std::span(static_cast<uint16_t*>(out.data_ptr()) + first, count));
  });
}

}  // namespace plumb
