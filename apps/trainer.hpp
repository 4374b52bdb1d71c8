// One optimizer update: the only place that knows the order of a step.
#pragma once

#include <string>
#include <vector>

#include "lib/objective/sft.hpp"
#include "lib/optim/adamw.hpp"
#include "lib/optim/schedule.hpp"
#include "partition/sharded_model.hpp"

namespace plumb {

struct TrainerOptions {
  AdamWOptions adamw;
  Schedule schedule;
  double max_grad_norm = 1.0;  // 0: no clipping
  TokenLoss token_loss = TokenLoss::kNll;
};

/// Over the global batch. Metric names are TRL's.
struct StepStats {
  double loss = 0;
  double grad_norm = 0;  // before clipping
  double learning_rate = 0;
  double entropy = 0;
  double mean_token_accuracy = 0;
  int64_t num_tokens = 0;
};

struct EvaluationStats {
  double loss = 0;
  double entropy = 0;
  double mean_token_accuracy = 0;
  double exact_match = 0;  // share of rows whose greedy continuation is the trained text
  int64_t num_trained_tokens = 0;
  int64_t num_tokens = 0;
};

class Trainer {
 public:
  Trainer(ShardedModel& model, const Communicator& comm, const TrainerOptions& options)
      : model_(model), comm_(comm), options_(options) {}

  /// Collective: every rank passes its micro-batches, equally many. Throws NumericError on all ranks alike, before
  /// anything is updated, if loss or norm is not finite.
  StepStats step(const std::vector<MicroBatch>& micro_batches);

  int64_t num_steps_done() const { return num_steps_done_; }

 private:
  ShardedModel& model_;
  const Communicator& comm_;
  TrainerOptions options_;
  TokenLossScratch scratch_;
  int64_t num_steps_done_ = 0;
};

/// Collective: `next` returns this rank's micro-batches of the next round, equally many on all ranks, num_rounds times.
EvaluationStats evaluate_model(ShardedModel& model, const Communicator& comm, int64_t num_rounds,
                               const std::function<std::vector<MicroBatch>()>& next);

}  // namespace plumb
