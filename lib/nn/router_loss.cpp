#include "lib/nn/router_loss.hpp"

#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

RouterLoad router_load(const Routing& routing) {
  RouterLoad load;
  const int64_t num_experts = routing.probability_NE.size(1);
  load.num_tokens = routing.num_tokens;
  load.probability_E.assign(num_experts, 0);
  for (int64_t e = 0; e < num_experts; ++e) load.num_chosen_E.push_back(routing.num_rows(e));
  const at::Tensor probability_NE = routing.probability_NE.cpu();
  const float* p = data_of<float>(probability_NE);
  for (int64_t t = 0; t < routing.num_tokens; ++t)
    for (double& sum : load.probability_E) sum += static_cast<double>(*p++);
  return load;
}

double router_loss(const RouterLoad& load) {
  const std::vector<double> gradient = router_loss_gradient(load.num_chosen_E, load.num_tokens, 1);
  double sum = 0;
  for (size_t e = 0; e < gradient.size(); ++e) sum += gradient[e] * load.probability_E[e];
  return sum;
}

std::vector<double> router_loss_gradient(std::span<const int64_t> num_chosen_E, int64_t num_tokens,
                                         double coefficient) {
  std::vector<double> gradient(num_chosen_E.size(), 0);
  if (num_tokens == 0) return gradient;
  const auto tokens = static_cast<double>(num_tokens);
  for (size_t e = 0; e < gradient.size(); ++e)
    gradient[e] =
        coefficient * static_cast<double>(gradient.size()) * static_cast<double>(num_chosen_E[e]) / tokens / tokens;
  return gradient;
}

}  // namespace plumb
