// The place where rows run: a directory with a model, rows and a pipeline of two stages; the outcome of an undisturbed
// run of it; and run directories in the states in which a fault may find them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/faults/fault_case.hpp"
#include "tests/support/outcome.hpp"

namespace plumb::test {

inline constexpr double kTimeToEndSeconds = 20;  // for processes whose launcher is gone

double monotonic_seconds();

class FaultHarness {
 public:
  struct Length {
    int steps_per_stage = kStepsPerStage;
    int save_steps = kInterval;
    int logging_steps = 1;
  };

  /// Makes the model and runs the pipeline once, undisturbed, on 8 ranks. Throws std::runtime_error.
  FaultHarness(const std::string& directory, const Length& length);

  /// The outcome of the undisturbed run, by stage.
  const std::map<std::string, Outcome>& golden() const { return golden_; }
  double golden_seconds() const { return golden_seconds_; }

  /// A directory of its own for a row, removed with what is in it by clear().
  Place make_place(const std::string& name, Start start);
  void clear(const Place& place) const;

  /// The next start has this many ranks, and the same global batch.
  void write_ini(const Place& place, int num_ranks, bool is_async) const;
  /// plumb in this place, with an environment in which its processes can be found.
  RunResult start(const Place& place, const Attempt& attempt, bool is_async) const;

  /// "NAME=value" that the processes of this harness have in their environment.
  std::string mark() const { return "PLUMB_FAULT_HARNESS=" + directory_; }

 private:
  std::string state_of(Start start);

  std::string directory_;
  Length length_;
  std::map<std::string, Outcome> golden_;
  double golden_seconds_ = 0;
};

}  // namespace plumb::test
