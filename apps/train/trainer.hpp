// One optimizer step: forward, loss and backward for each micro-batch, then agreement of all ranks on whether the step
// counts, then the update. The only code that knows this order.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/run/state.hpp"
#include "apps/train/router_balance.hpp"
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
  std::function<bool()> wants_stop = {};  // called on each rank in each step
  double spike_threshold = 0;             // see describe_spike()
  /// Whether memory is checked between the update of this step and the next; it is also checked before a stop.
  std::function<bool(int64_t step)> is_memory_checked = {};
};

/// Reports of all ranks, exchanged together with the sums of a step.
struct RankReports {
  bool is_stop_wanted = false;     // on at least one rank
  bool is_memory_damaged = false;  // on at least one rank
  /// By rank: time of computing, without waiting for other ranks; 0 if the rank had no rows.
  std::vector<int64_t> picoseconds_per_token;
};

/// Results of a step over the global batch.
struct StepStats {
  double grad_norm = 0;  // before clipping
  double learning_rate = 0;
  int64_t num_tokens = 0;
  std::optional<int64_t> num_new_tokens = {};  // of these, those that no step before had; none: all
  std::vector<Metric> metrics;  // of the objective and of routers; the loss is the first, with that of routers
  RankReports reports;
  std::string skip_reason;  // empty, or why nothing was updated

  bool is_skipped() const { return !skip_reason.empty(); }
  double loss() const { return metrics.front().value; }
  /// The value of a metric. Throws std::logic_error if the objective does not have it.
  double metric(std::string_view name) const;
};

/// Results over an evaluation set.
struct EvaluationStats {
  int64_t num_items = 0;  // trained tokens or pairs
  int64_t num_tokens = 0;
  std::vector<Metric> metrics;

  double metric(std::string_view name) const;
};

class Trainer {
 public:
  /// state: the trainer's state after the steps that the model has already taken.
  Trainer(TrainableModel& model, const Communicator& comm, Objective& objective, const TrainerOptions& options,
          TrainerState state = {});

  /// Collective: every rank passes the same number of micro-batches. A step whose loss or norm is not finite, or a
  /// spike, is skipped on all ranks: nothing is updated. Throws as verify_memory().
  StepStats step(const std::vector<MicroBatch>& micro_batches);

  const TrainerState& state() const { return state_; }
  int64_t num_steps_done() const { return state_.num_steps_done; }
  /// Local: must be called after the model was restored. state: that of the restored model.
  void resume_from(TrainerState state);

  /// Collective: throws AgreedError (transient) that names a rank whose parameters or moments have changed since the
  /// last update, if memory is checked after that step.
  void verify_memory() const;

 private:
  void take_checksums(bool is_stopping);

  TrainableModel& model_;
  const Communicator& comm_;
  Objective& objective_;
  TrainerOptions options_;
  TrainerState state_;
  ShardChecksums checksums_;  // empty: not checked after this step
};

/// The results of a backward pass over a global batch, whose gradient is in the model's shards.
struct BatchGradient {
  BatchWeight weight;
  ObjectiveSums sums;  // over all ranks
  double norm = 0;
  RouterBalance::Result routers;
  RankReports reports;
};
/// The report of one rank, exchanged with the sums of a step.
struct RankReport {
  bool wants_stop = false;
  bool is_memory_damaged = false;
};
/// Collective: forward, loss and backward for every micro-batch, then sums over ranks; nothing is updated. step: names
/// the phases (lib/base/activity.hpp); 0 for none.
BatchGradient accumulate_global_batch(TrainableModel& model, const Communicator& comm, Objective& objective,
                                      const std::vector<MicroBatch>& micro_batches,
                                      const std::function<RankReport()>& report = {}, int64_t step = 0);

/// Returns this rank's micro-batches of the next round; all ranks have the same number.
using NextMicroBatches = std::function<std::vector<MicroBatch>()>;

/// Collective: evaluates num_rounds rounds. start() begins the set from its first row and returns the function for its
/// rounds; an objective that needs global statistics reads the set twice.
EvaluationStats evaluate_model(TrainableModel& model, const Communicator& comm, Objective& objective,
                               int64_t num_rounds, const std::function<NextMicroBatches()>& start);

}  // namespace plumb
