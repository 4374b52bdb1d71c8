#include "lib/base/fault.hpp"

#include <csignal>
#include <cstdlib>
#include <string>

#include "lib/base/check.hpp"

namespace plumb {

void pass_fault_point(std::string_view point, int64_t step, int rank) {
  static const char* const kFault = std::getenv("PLUMB_FAULT");
  if (kFault == nullptr) return;
  const std::string here = fmt::format("{}:{}:{}:", point, step, rank);
  std::string_view fault = kFault;
  while (!fault.starts_with(here)) {
    const size_t end = fault.find(';');
    if (end == std::string_view::npos) return;
    fault.remove_prefix(end + 1);
  }
  fault = fault.substr(0, fault.find(';'));
  const std::string_view action = fault.substr(here.size());
  if (action == "kill") std::raise(SIGKILL);
  if (action == "stop") std::raise(SIGSTOP);
  if (action == "segv") std::raise(SIGSEGV);
  if (action == "usr1") std::raise(SIGUSR1);
  if (action == "term") std::raise(SIGTERM);
  if (action == "exit") std::exit(0);
  if (action == "error") throw_error<InputOutputError>("{}: a fault on purpose", fault);
  if (action == "throw") throw_error<std::runtime_error>("{}: a fault on purpose", fault);
}

}  // namespace plumb
