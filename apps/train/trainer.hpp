// One optimizer step: forward, loss and backward for each micro-batch, then agreement of all ranks on whether the step
// counts, then the update. The only place that knows this order.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/run/state.hpp"
#include "lib/objective/objective.hpp"
#include "lib/optim/adamw.hpp"
#include "lib/optim/schedule.hpp"
#include "lib/optim/spikes.hpp"
#include "partition/communicator.hpp"
#include "partition/shard_checksums.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

struct TrainerOptions {
  AdamWOptions adamw;
  Schedule schedule;
  double max_grad_norm = 1.0;             // 0: no clipping
  std::function<bool()> wants_stop = {};  // asked of each rank in each step
  double spike_threshold = 0;             // of describe_spike()
  /// Whether memory is to be checked between the update of this step and the next; a rank that is to stop checks too.
  std::function<bool(int64_t step)> is_memory_checked = {};
};

/// What the ranks report to each other together with the sums of a step.
struct RankReports {
  bool is_stop_wanted = false;     // by at least one rank
  bool is_memory_damaged = false;  // of at least one rank
  std::vector<int64_t>
      picoseconds_per_token;  // by rank: time of computing, without waiting for others; 0: it had no rows
};

/// Over the global batch.
struct StepStats {
  double grad_norm = 0;  // before clipping
  double learning_rate = 0;
  int64_t num_tokens = 0;
  std::vector<Metric> metrics;  // the objective's, its loss first
  RankReports reports;
  std::string skip_reason;  // "", or why nothing was updated

  bool is_skipped() const { return !skip_reason.empty(); }
  double loss() const { return metrics.front().value; }
  /// Of the metric with this name, which the objective must have.
  double metric(std::string_view name) const;
};

/// Over an evaluation set.
struct EvaluationStats {
  int64_t num_items = 0;  // trained tokens or pairs
  int64_t num_tokens = 0;
  std::vector<Metric> metrics;

  double metric(std::string_view name) const;
};

class Trainer {
 public:
  /// state: after the steps that the model has already taken.
  Trainer(TrainableModel& model, const Communicator& comm, Objective& objective, const TrainerOptions& options,
          TrainerState state = {});

  /// Collective: every rank passes its micro-batches, equally many. A step whose loss or norm is not finite, or a
  /// spike, is skipped by all ranks alike: nothing is updated. Throws as verify_memory().
  StepStats step(const std::vector<MicroBatch>& micro_batches);

  const TrainerState& state() const { return state_; }
  int64_t num_steps_done() const { return state_.num_steps_done; }
  /// Local: the model has been restored; state: as it was then.
  void resume_from(TrainerState state);

  /// Collective: throws AgreedError (transient) that names a rank on which parameters or moments are not what the last
  /// update left, if that was a step to be checked.
  void verify_memory() const;

 private:
  void take_checksums(bool is_to_stop);

  TrainableModel& model_;
  const Communicator& comm_;
  Objective& objective_;
  TrainerOptions options_;
  TrainerState state_;
  ShardChecksums checksums_;  // none: not to be checked
};

/// The gradient of a global batch, which stays in the model's shards.
struct BatchGradient {
  BatchWeight weight;
  ObjectiveSums sums;  // over all ranks
  double norm = 0;
  RankReports reports;
};
/// What a rank reports when it has computed its part.
struct RankReport {
  bool wants_stop = false;
  bool is_memory_damaged = false;
};
/// Collective: forward, loss and backward for every micro-batch, then sums over ranks; nothing is updated. step: of the
/// phases (lib/base/activity.hpp); 0: before the first.
BatchGradient accumulate_global_batch(TrainableModel& model, const Communicator& comm, Objective& objective,
                                      const std::vector<MicroBatch>& micro_batches,
                                      const std::function<RankReport()>& report = {}, int64_t step = 0);

/// This rank's micro-batches of the next round, equally many on all ranks.
using NextMicroBatches = std::function<std::vector<MicroBatch>()>;

/// Collective: `start` begins the set from its first row and returns what gives its num_rounds rounds; an objective
/// that needs global statistics sees the set twice.
EvaluationStats evaluate_model(TrainableModel& model, const Communicator& comm, Objective& objective,
                               int64_t num_rounds, const std::function<NextMicroBatches()>& start);

}  // namespace plumb
