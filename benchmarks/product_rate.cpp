// The float32 matrix products of a block and of a head, plumb's compared with LibTorch's: alternating pairs, with the
// median of each and of their ratio. Usage: plumb_product_rate [THREADS]
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <vector>

#include "benchmarks/timing.hpp"
#include "lib/kernels/kernels.hpp"
#include "lib/nn/matmul.hpp"

namespace {

struct Shape {
  const char* what;
  int64_t rows, depth, columns;
};
constexpr Shape kShapes[] = {
    {"block of 288", 2048, 288, 288},      {"gate and up", 2048, 288, 1536},      {"down", 2048, 768, 288},
    {"logits, 128 rows", 128, 288, 32000}, {"logits, 512 rows", 512, 288, 32000}, {"logits, backward", 512, 32000, 288},
    {"block of 2048", 1024, 2048, 2048}};

}  // namespace

int main(int argc, char** argv) {
  using namespace plumb;
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  constexpr int kPairs = 15;
  at::set_num_threads(threads);
  fmt::print(
      "{} thread(s), {}\n\n| product | rows x depth x columns | GFLOP/s | LibTorch's | ratio "
      "|\n|---|---|---|---|---|\n",
      threads, kernel_instruction_set());
  for (const Shape& shape : kShapes) {
    const bool is_backward = shape.depth > shape.columns && shape.depth > 10'000;
    const at::Tensor x = at::randn({shape.rows, shape.depth});
    const at::Tensor w =
        is_backward ? at::randn({shape.depth, shape.columns}) : at::randn({shape.columns, shape.depth}).t();
    at::Tensor out = at::empty({shape.rows, shape.columns}), other = at::empty({shape.rows, shape.columns});
    const auto ours = [&] { matmul_into(out, x, w); };
    const auto theirs = [&] { at::mm_out(other, x, w); };
    ours();  // touches the pages
    theirs();
    std::vector<double> ours_seconds, theirs_seconds, ratios;
    for (int pair = 0; pair < kPairs; ++pair) {
      ours_seconds.push_back(seconds_of(ours));
      theirs_seconds.push_back(seconds_of(theirs));
      ratios.push_back(theirs_seconds.back() / ours_seconds.back());
    }
    const double gflop = 2e-9 * static_cast<double>(shape.rows * shape.depth * shape.columns);
    fmt::print("| {} | {} x {} x {} | {:.0f} | {:.0f} | {:.2f} |\n", shape.what, shape.rows, shape.depth, shape.columns,
               gflop / median(ours_seconds), gflop / median(theirs_seconds), median(ratios));
  }
}
