// The log of the steps, for readers during a run: metrics.jsonl, with TRL's keys, TensorBoard event files,
// and the report of what they hold. Rank 0 only.
#pragma once

#include <string>

#include "apps/train/trainer.hpp"
#include "io/report/live_report.hpp"
#include "io/run/metrics_log.hpp"

namespace plumb {

class StepLog {
 public:
  /// Appends to the files of `directory`. Throws InputOutputError.
  explicit StepLog(const std::string& directory);
  /// Resumes after last_step; state: state() at that step. Lines of later steps are removed from the files.
  StepLog(const std::string& directory, int64_t last_step, const nlohmann::ordered_json& state);

  /// The sums over the steps since the last line, to be saved in a checkpoint.
  nlohmann::ordered_json state() const;
  /// Returns after all lines are fsynced.
  void sync() { metrics_.sync(); }

  /// Adds a step to the next line.
  void add(const StepStats& stats, double seconds);

  /// Writes one line, as TRL does: means over those steps since the last line that have the metric; norm, learning rate
  /// and number of tokens of the last step.
  void write(const StepStats& last, int64_t step, double epoch, int64_t total_tokens, int64_t memory_bytes);

  /// Writes a line for a skipped step: its rows, and why it was skipped.
  void write_skipped(int64_t step, double epoch, const std::vector<int64_t>& rows, const std::string& reason);
  /// Writes a line for a rollback after this step to the model of an earlier one.
  void write_rollback(int64_t step, double epoch, int64_t to_step);

  /// Writes the metrics of an evaluation, each as eval_NAME; for sft also the perplexity.
  void write(const EvaluationStats& stats, int64_t step, double epoch);

 private:
  MetricsLog metrics_;
  LiveReport report_;
  int64_t num_steps_ = 0, num_tokens_ = 0;
  double seconds_ = 0;
  struct Sum {
    std::string name;
    double value;
    int64_t count;
  };
  std::vector<Sum> sums_;  // the loss is the first
};

/// Such as "loss 0.6931  accuracy 0.8125".
std::string render_metrics(const std::vector<Metric>& metrics);

}  // namespace plumb
