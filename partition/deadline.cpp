#include "partition/deadline.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string_view>

#include "lib/base/check.hpp"
#include "lib/base/process_state.hpp"

namespace plumb {

namespace {

constexpr double kDefaultSeconds = 600;

/// The shorter of the limits that are set; 0 if none is.
double limit_seconds() {
  const char* const text = std::getenv("PLUMB_START_SECONDS");
  const double seconds = text ? std::atof(text) : kDefaultSeconds, run_limit = process_state().run_limit_seconds;
  return seconds > 0 && run_limit > 0 ? std::min(seconds, run_limit) : std::max({seconds, run_limit, 0.0});
}

[[noreturn]] void end_process(const std::string& what, double seconds) {
  const char* const rank = std::getenv("OMPI_COMM_WORLD_RANK");
  const std::string text =
      fmt::format("plumb: [rank {}] error: waits for {} since {:g} s ({}): another rank hangs\n",
                  rank ? std::string_view(rank) : "unknown", what, seconds,
                  seconds == process_state().run_limit_seconds ? "--watchdog_seconds" : "PLUMB_START_SECONDS");
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
  ::_exit(kExitHang);
}

}  // namespace

Deadline::Deadline(const std::string& what) {
  const double seconds = limit_seconds();
  if (seconds <= 0) return;
  thread_ = std::thread([this, what, seconds] {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // the main thread handles signals
    std::unique_lock lock(mutex_);
    if (!is_over_changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return is_over_; }))
      end_process(what, seconds);
  });
}

Deadline::~Deadline() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  is_over_changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

}  // namespace plumb
