#include "apps/run/stop_request.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <ctime>

#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/process_state.hpp"

namespace plumb {

namespace {

constexpr double kMarginSeconds = 1;         // for the program to exit after the last save
constexpr double kBatchMarginSeconds = 30;   // a batch system kills at once, and its clock may differ
constexpr double kSlowness = 1.5;            // the next step or save may take this times the slowest so far
constexpr double kForgettingPerStep = 0.98;  // decay, so that one slow step, such as the first, is forgotten

void note_signal(int signal) {
  int none = 0;
  process_state().stop_signal.compare_exchange_strong(none, signal);
}

const double kProgramStart = steady_seconds();

}  // namespace

void stop_on_signals() {
  for (const int signal : {SIGUSR1, SIGTERM}) {
    struct sigaction action = {};
    action.sa_handler = note_signal;
    action.sa_flags = SA_RESTART;
    ::sigaction(signal, &action, nullptr);
  }
}

std::string_view stop_signal() {
  const int signal = process_state().stop_signal.load();
  return signal == SIGUSR1 ? "SIGUSR1" : signal == SIGTERM ? "SIGTERM" : "";
}

TimeLimit::TimeLimit(double max_seconds) {
  if (max_seconds > 0) end_seconds_ = kProgramStart + max_seconds - kMarginSeconds;
  if (const char* const text = std::getenv("SLURM_JOB_END_TIME")) {
    const double left = std::atof(text) - static_cast<double>(std::time(nullptr));
    const double end = steady_seconds() + left - kBatchMarginSeconds;
    if (std::atof(text) > 0) end_seconds_ = std::min(end, end_seconds_.value_or(end));
  }
}

bool TimeLimit::is_near() const {
  return end_seconds_ && steady_seconds() + kSlowness * (slowest_step_seconds_ + slowest_save_seconds_) > *end_seconds_;
}

void TimeLimit::add_step(double seconds) {
  slowest_step_seconds_ = std::max(seconds, slowest_step_seconds_ * kForgettingPerStep);
}

void TimeLimit::add_save(double seconds) { slowest_save_seconds_ = std::max(seconds, slowest_save_seconds_); }

}  // namespace plumb
