// Forward and backward of one sparse MLP on one thread: prints the median of its processor seconds.
// experts_side_by_side.sh runs it beside transformers.
// Usage: plumb_experts_rate DTYPE TOKENS HIDDEN SIZE EXPERTS CHOSEN REPEATS
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>

#include <ctime>
#include <string>
#include <vector>

#include "benchmarks/timing.hpp"
#include "lib/nn/experts.hpp"

int main(int argc, char** argv) {
  using namespace plumb;
  if (argc != 8) return 2;
  const at::ScalarType dtype = std::string(argv[1]) == "bfloat16" ? at::kBFloat16 : at::kFloat;
  const int64_t tokens = std::stoll(argv[2]), hidden = std::stoll(argv[3]), size = std::stoll(argv[4]);
  const int64_t experts = std::stoll(argv[5]), chosen = std::stoll(argv[6]), repeats = std::stoll(argv[7]);
  at::set_num_threads(1);
  const auto random = [&](at::IntArrayRef shape, double scale) { return (at::randn(shape) * scale).to(dtype); };
  ExpertTensors parameters, gradients;
  parameters.router_ED = random({experts, hidden}, 0.02);
  parameters.gate_up_EGD = random({experts, 2 * size, hidden}, 0.02);
  parameters.down_EDF = random({experts, hidden, size}, 0.02);
  gradients.router_ED = at::empty_like(parameters.router_ED);
  gradients.gate_up_EGD = at::empty_like(parameters.gate_up_EGD);
  gradients.down_EDF = at::empty_like(parameters.down_EDF);
  const at::Tensor x = random({tokens, hidden}, 1), dout = random({tokens, hidden}, 1);
  const ExpertConfig config = {{experts, chosen, true, false}};
  std::vector<double> seconds;
  for (int64_t i = 0; i <= repeats; ++i) {
    const std::clock_t start = std::clock();
    ExpertActivations saved;
    experts_forward(config, parameters, {x, tokens}, x, saved);
    experts_backward(config, parameters, {x, tokens}, saved, dout, gradients);
    if (i > 0) seconds.push_back(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);  // the first is warm-up
  }
  fmt::print("{}\n", median(seconds));
  return 0;
}
