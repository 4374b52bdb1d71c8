// The progress line: step, loss, speed, time left, memory. On a terminal it is one line that is rewritten; in a batch
// log it is one line per logged step. Rank 0 only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace plumb {

struct ProgressState {
  int64_t step = 0;
  int64_t num_steps = 0;
  double epoch = 0;
  double loss = 0;
  double grad_norm = 0;
  double learning_rate = 0;
  double tokens_per_second = 0;
  double seconds_left = 0;
  int64_t memory_bytes = 0;           // proportional set of all ranks
  std::optional<double> reward = {};  // of the last round, for a stage that has rounds
};

class Progress {
 public:
  Progress();
  /// Shows the state: on a terminal always, in a log only if is_logged.
  void show(const ProgressState& state, bool is_logged);
  /// Ends the rewritten line, so that other lines can follow.
  void finish_line();

 private:
  bool is_terminal_;
  bool has_open_line_ = false;
};

}  // namespace plumb
