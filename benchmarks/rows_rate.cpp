// Products of the few rows of a step of text generation with the matrices of a model, plumb's compared with LibTorch's:
// alternating pairs over all matrices, which do not fit the caches, with the medians and the rate of reading weights.
// Usage: plumb_rows_rate [THREADS]
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <vector>

#include "benchmarks/timing.hpp"
#include "lib/kernels/decode_kernels.hpp"
#include "lib/nn/decode_ops.hpp"

int main(int argc, char** argv) {
  using namespace plumb;
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  constexpr int kPairs = 9;
  at::set_num_threads(threads);
  // the matrices of SmolLM2-135M
  constexpr int64_t kHidden = 576, kQkv = 960, kGateUp = 3072, kFeedForward = 1536, kVocabulary = 49152, kLayers = 30;
  fmt::print("{} thread(s); bfloat16 by {}\n\n", threads, decode_kernels<BFloat16>().product_instructions);
  fmt::print("| dtype | rows | GB/s of weights | GFLOP/s | LibTorch's | ratio |\n|---|---|---|---|---|---|\n");
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    std::vector<at::Tensor> weights = {at::randn({kVocabulary, kHidden}).to(dtype)};
    for (int64_t layer = 0; layer < kLayers; ++layer)
      for (const auto& [outputs, inputs] :
           {std::pair(kQkv, kHidden), {kHidden, kHidden}, {kGateUp, kHidden}, {kHidden, kFeedForward}})
        weights.push_back(at::randn({outputs, inputs}).to(dtype));
    double num_bytes = 0, num_elements = 0;
    for (const at::Tensor& weight : weights) {
      num_bytes += static_cast<double>(weight.nbytes());
      num_elements += static_cast<double>(weight.numel());
    }
    for (const int64_t rows : {1, 4, 8, 16, 32, 64}) {
      const at::Tensor short_x = at::randn({rows, kHidden}).to(dtype),
                       long_x = at::randn({rows, kFeedForward}).to(dtype);
      const auto x = [&](const at::Tensor& weight) { return weight.size(1) == kHidden ? short_x : long_x; };
      const auto ours = [&] {
        for (const at::Tensor& weight : weights) multiply_rows(x(weight), weight);
      };
      const auto theirs = [&] {
        for (const at::Tensor& weight : weights) at::mm(x(weight), weight.t());
      };
      ours();
      theirs();
      std::vector<double> ours_seconds, theirs_seconds, ratios;
      for (int pair = 0; pair < kPairs; ++pair) {
        ours_seconds.push_back(seconds_of(ours));
        theirs_seconds.push_back(seconds_of(theirs));
        ratios.push_back(theirs_seconds.back() / ours_seconds.back());
      }
      const double gflop = 2e-9 * static_cast<double>(rows) * num_elements, seconds = median(ours_seconds);
      fmt::print("| {} | {} | {:.1f} | {:.0f} | {:.0f} | {:.2f} |\n", dtype == at::kFloat ? "float32" : "bfloat16",
                 rows, 1e-9 * num_bytes / seconds, gflop / seconds, gflop / median(theirs_seconds), median(ratios));
    }
  }
}
