// The environment of the fault table: a directory with a model, rows and a pipeline of two stages, sft and dpo or grpo;
// the outcome of an undisturbed run; and run directories in the states in which faults are injected.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/faults/fault_case.hpp"
#include "tests/support/outcome.hpp"

namespace plumb::test {

inline constexpr double kTimeToEndSeconds = 20;  // for processes whose launcher was killed

/// Seconds of the monotonic clock.
double monotonic_seconds();

class FaultHarness {
 public:
  struct Length {
    int steps_per_stage = kStepsPerStage;
    int save_steps = kInterval;
    int logging_steps = 1;
    int num_ranks = 8;  // of the undisturbed run, and of the runs that reach the states in which faults are injected
  };

  /// Creates the model and runs the pipeline with dpo once, undisturbed. Throws std::runtime_error if that fails.
  FaultHarness(const std::string& directory, const Length& length);

  /// The outcome of the undisturbed run of the pipeline with this second stage, by stage; made when it is first needed.
  /// Throws as the constructor.
  const std::map<std::string, Outcome>& golden(const std::string& second_stage = "dpo");
  /// How long the one with dpo took.
  double golden_seconds() const { return golden_seconds_; }

  /// Creates the directory of a row; clear() removes it.
  Place make_place(const std::string& name, Start start);
  void clear(const Place& place) const;

  /// Writes align.ini for this many ranks, with the same global batch.
  void write_ini(const Place& place, int num_ranks, bool is_async) const;
  /// Starts plumb in this place, with mark() in its environment.
  RunResult start(const Place& place, const Attempt& attempt, bool is_async) const;

  /// "NAME=value" in the environment of all processes of this harness, by which they are found.
  std::string mark() const { return "PLUMB_FAULT_HARNESS=" + directory_; }

 private:
  std::string state_of(Start start);

  std::string directory_;
  Length length_;
  std::map<std::string, std::map<std::string, Outcome>> golden_;  // by second stage
  double golden_seconds_ = 0;
};

}  // namespace plumb::test
