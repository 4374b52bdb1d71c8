#include "lib/base/fault.hpp"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>

#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/process_state.hpp"

namespace plumb {

namespace {

/// The action that PLUMB_FAULT asks for here; "" for none.
std::string_view action_at(std::string_view point, int64_t step, int rank) {
  static const char* const kFault = std::getenv("PLUMB_FAULT");
  if (kFault == nullptr) return "";
  const std::string here = fmt::format("{}:{}:{}:", point, step, rank);
  std::string_view fault = kFault;
  while (!fault.starts_with(here)) {
    const size_t end = fault.find(';');
    if (end == std::string_view::npos) return "";
    fault.remove_prefix(end + 1);
  }
  return fault.substr(here.size(), fault.find(';') - here.size());
}

}  // namespace

bool is_fault_due(std::string_view point, int64_t step, std::string_view action) {
  return action_at(point, step, process_state().rank) == action;
}

void fault_point(std::string_view point, int64_t step) {
  const int rank = process_state().rank;
  const std::string_view action = action_at(point, step, rank);
  if (action.empty()) return;
  // in one write that bypasses the log and its lock: the process may end next
  const std::string line =
      fmt::format("plumb: [rank {}] fault: {}:{}:{}:{} at {:.3f}\n", rank, point, step, rank, action, steady_seconds());
  if (::write(STDERR_FILENO, line.data(), line.size()) < 0) return;
  if (action == "kill") std::raise(SIGKILL);
  if (action == "stop") std::raise(SIGSTOP);
  if (action == "segv") std::raise(SIGSEGV);
  if (action == "usr1") std::raise(SIGUSR1);
  if (action == "term") std::raise(SIGTERM);
  if (action == "exit") std::exit(0);
  if (action == "wait") std::this_thread::sleep_for(std::chrono::minutes(1));
  if (action == "error") throw_error<InputOutputError>("{}:{}:{}: an injected fault", point, step, rank);
  if (action == "throw") throw_error<std::runtime_error>("{}:{}:{}: an injected fault", point, step, rank);
}

}  // namespace plumb
