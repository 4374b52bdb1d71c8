// What a run says of its steps, for machines: metrics.jsonl, and TensorBoard event files beside it. Keys are TRL's.
// Rank 0 only.
#pragma once

#include <string>

#include "apps/train/trainer.hpp"
#include "io/run/metrics_log.hpp"

namespace plumb {

class StepLog {
 public:
  /// Appends to the files of `directory`. Throws InputOutputError.
  explicit StepLog(const std::string& directory);
  /// Goes on after `last_step` with what state() was then; what the files have of later steps is removed.
  StepLog(const std::string& directory, int64_t last_step, const nlohmann::ordered_json& state);

  /// Of the steps since the last line.
  nlohmann::ordered_json state() const;
  /// Returns after all lines are on the device.
  void sync() const { metrics_.sync(); }

  /// Counts toward the next line.
  void add(const StepStats& stats, double seconds);

  /// One line: the means over the steps since the last one, as TRL logs them; norm, learning rate and the number of
  /// tokens of the last step.
  void write(const StepStats& last, int64_t step, double epoch, int64_t total_tokens, int64_t memory_bytes);

  /// A step that changed nothing: the rows that it had, and why.
  void write_skipped(int64_t step, double epoch, const std::vector<int64_t>& rows, const std::string& reason);
  /// After this step the run went back to the model of an earlier one.
  void write_rollback(int64_t step, double epoch, int64_t to_step);

  /// The metrics of an evaluation, each as eval_NAME; sft's loss also as perplexity.
  void write(const EvaluationStats& stats, int64_t step, double epoch);

 private:
  MetricsLog metrics_;
  int64_t num_steps_ = 0, num_tokens_ = 0;
  double seconds_ = 0;
  std::vector<Metric> sums_;
};

/// "loss 0.6931  accuracy 0.8125": all of them, for people.
std::string render_metrics(const std::vector<Metric>& metrics);

}  // namespace plumb
