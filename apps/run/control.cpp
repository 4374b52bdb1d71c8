#include "apps/run/control.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apps/run/output_directory.hpp"
#include "io/checkpoint/directory.hpp"
#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

RunControl::RunControl(const Communicator& comm, std::string_view command, std::string output_dir,
                       std::optional<double> max_seconds)
    : output_dir_(std::move(output_dir)), is_first_rank_(comm.rank() == 0), time_(max_seconds.value_or(0)) {
  if (!is_first_rank_) return;
  RunStatus status;
  status.command = command;
  status.num_ranks = comm.size();
  status.process = this_process();
  status_.emplace(output_dir_, status);
}

bool RunControl::wants_stop() const { return !stop_signal().empty() || (is_first_rank_ && time_.is_near()); }

void RunControl::add_step(const ProgressState& progress, const std::vector<int64_t>& picoseconds_per_token,
                          double step_seconds) {
  time_.add_step(step_seconds);
  if (!is_first_rank_) return;
  const std::string slow = stragglers_.add_step(picoseconds_per_token);
  if (!slow.empty()) log_warning("step {}: {}", progress.step, slow);
  status_->update([&](RunStatus& s) {
    s.step = progress.step;
    s.num_steps = progress.num_steps;
    s.loss = progress.loss;
    s.tokens_per_second = progress.tokens_per_second;
    s.step_seconds = step_seconds;
    s.seconds_left = progress.seconds_left;
    s.memory_bytes = progress.memory_bytes;
    s.step_time = wall_seconds();
    if (!slow.empty()) s.slow_ranks = fmt::format("step {}: {}", progress.step, slow);
  });
}

void RunControl::add_save(int64_t step, double seconds) {
  time_.add_save(seconds);
  if (!status_) return;
  status_->update([&](RunStatus& s) {
    s.checkpoint = join_path(checkpoint_directory(output_dir_), checkpoint_name(step));
    s.save_seconds = std::max(s.save_seconds, seconds);
  });
}

std::string RunControl::reason_to_stop() const {
  if (!stop_signal().empty()) return fmt::format("on {}", stop_signal());
  return is_first_rank_ && time_.is_near() ? "because its time is nearly over" : "on a signal to another rank";
}

void RunControl::stop_before_steps(const Communicator& comm) {
  if (comm.any(wants_stop()))
    stop(fmt::format("stopped {} before the first step; the same command starts it again", reason_to_stop()),
         kExitTransient);
}

void RunControl::stop(int64_t step, bool is_saved) {
  stop(fmt::format("stopped after step {} {}; {}", step, reason_to_stop(),
                   is_saved ? "the same command resumes from there"
                            : "no checkpoint of it was saved, so the same command resumes from the one before"),
       is_saved ? kExitStopped : kExitTransient);
}

void RunControl::stop(const std::string& message, int exit_code) {
  if (status_) status_->end("stopped", message);
  throw StoppedRun(message, exit_code);
}

void RunControl::end() {
  if (status_) status_->end("done");
}

}  // namespace plumb
