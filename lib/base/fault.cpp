#include "lib/base/fault.hpp"

#include <csignal>
#include <cstdlib>
#include <string>

#include "lib/base/check.hpp"

namespace plumb {

void pass_fault_point(std::string_view point, int64_t step, int rank) {
  static const char* const kFault = std::getenv("PLUMB_FAULT");
  if (kFault == nullptr) return;
  const std::string_view fault = kFault;
  const std::string here = fmt::format("{}:{}:{}:", point, step, rank);
  if (!fault.starts_with(here)) return;
  const std::string_view action = fault.substr(here.size());
  if (action == "kill") std::raise(SIGKILL);
  if (action == "stop") std::raise(SIGSTOP);
  if (action == "segv") std::raise(SIGSEGV);
  if (action == "exit") std::exit(0);
  if (action == "error") throw_error<InputOutputError>("{}: a fault on purpose", fault);
  if (action == "throw") throw_error<std::runtime_error>("{}: a fault on purpose", fault);
}

}  // namespace plumb
