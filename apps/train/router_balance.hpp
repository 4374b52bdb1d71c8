// The routers of a mixture of experts over one step: how evenly they divided the tokens, and the loss that asks them to
// (lib/nn/router_loss.hpp). Its gradient needs the counts of the whole global batch before the first backward pass.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/base/exact_sum.hpp"
#include "lib/nn/router_loss.hpp"
#include "lib/objective/objective.hpp"
#include "partition/communicator.hpp"

namespace plumb {

class RouterBalance {
 public:
  /// coefficient: of the loss; 0: none.
  explicit RouterBalance(double coefficient) : coefficient_(coefficient) {}

  bool has_loss() const { return coefficient_ > 0; }

  /// Adds the counts of one micro-batch.
  void count(const std::vector<RouterLoad>& layers);
  /// Collective: the counts of all ranks. Call once, after the last count() and before the functions below.
  void sum_counts(const Communicator& comm);

  /// Adds one micro-batch's part of the loss.
  void add_loss(const std::vector<RouterLoad>& layers);
  /// That of coefficient * loss with respect to the sums of the experts' probabilities; empty without a loss.
  const std::vector<double>& gradient_E() const { return gradient_E_; }

  /// Collective: coefficient * loss, 0 without one, and the metrics: aux_loss as in TRL, and the load of the expert
  /// that the most tokens of a layer chose, where 1 is an equal share. No metrics without experts.
  struct Result {
    double weighted_loss = 0;
    std::vector<Metric> metrics;
  };
  Result finish(const Communicator& comm);

 private:
  int64_t num_experts() const { return std::ssize(counts_LE_) / std::ssize(tokens_L_); }

  double coefficient_;
  std::vector<int64_t> counts_LE_, tokens_L_;
  std::vector<double> gradient_E_;
  ExactSum loss_;
};

}  // namespace plumb
