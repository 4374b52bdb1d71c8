// Speed of dequantizing a 4-bit matrix to bfloat16 or float32, compared with memcpy on the same number of threads:
// alternating pairs, with the median of each and of their ratio. Usage: plumb_nf4_rate [THREADS [MEBI_ELEMENTS]]
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "benchmarks/timing.hpp"
#include "lib/kernels/kernels.hpp"
#include "lib/nn/tensor_ops.hpp"

int main(int argc, char** argv) {
  using namespace plumb;
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const int64_t count = int64_t{argc > 2 ? std::atoi(argv[2]) : 64} << 20;
  constexpr int kPairs = 15;
  at::set_num_threads(threads);
  std::vector<float> values(count);
  for (size_t i = 0; i < values.size(); ++i)  // only the range of values matters, so a cheap hash is enough
    values[i] = static_cast<float>(static_cast<int32_t>(static_cast<uint32_t>(i) * 2654435761u)) * 0x1p-36f;
  Nf4View matrix{nf4_layout(count, true), nullptr, Dtype::kBf16};
  std::vector<std::byte> bytes(matrix.layout.num_bytes);
  const double quantize_seconds = seconds_of([&] { nf4_quantize(values, matrix.layout, bytes); });
  matrix.data = bytes.data();
  fmt::print("{} elements, {} thread(s), {}; quantized at {:.2f} Gelem/s on one thread\n", count, threads,
             kernel_instruction_set(), static_cast<double>(count) / quantize_seconds * 1e-9);

  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    const at::Tensor out = at::empty({count}, dtype);
    const auto out_bytes = static_cast<double>(out.nbytes());
    std::vector<char> source(out.nbytes(), 1), target(out.nbytes());
    const auto copy = [&] {
      at::parallel_for(0, std::ssize(source), 1 << 20, [&](int64_t begin, int64_t end) {
        std::memcpy(target.data() + begin, source.data() + begin, end - begin);
      });
    };
    const auto dequantize = [&] { cpu_ops().nf4_dequantize(matrix, 0, out); };
    copy();  // touches the pages
    dequantize();
    const double moved_bytes = out_bytes + static_cast<double>(bytes.size());
    std::vector<double> rates, copy_rates, ratios;
    for (int pair = 0; pair < kPairs; ++pair) {
      rates.push_back(moved_bytes / seconds_of(dequantize));
      copy_rates.push_back(2 * out_bytes / seconds_of(copy));
      ratios.push_back(rates.back() / copy_rates.back());
    }
    fmt::print("{:8}: {:.2f} Gelem/s, {:.1f} GB/s in and out; memcpy {:.1f} GB/s in and out; ratio {:.2f}\n",
               dtype == at::kFloat ? "float32" : "bfloat16",
               median(rates) / moved_bytes * static_cast<double>(count) * 1e-9, median(rates) * 1e-9,
               median(copy_rates) * 1e-9, median(ratios));
  }
  return 0;
}
