#include "apps/commands/command_line.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "apps/commands/commands.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/base/text_format.hpp"
#include "lib/base/version.hpp"

namespace plumb {

static constexpr std::chrono::seconds kTimeToReport(2);

static int run(const std::vector<std::string>& arguments) {
  const std::vector<Command> commands = all_commands();
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    fmt::print("{}", render_help(commands));
    return arguments.empty() ? kExitUsage : kExitDone;
  }
  if (arguments[0] == "--version") {
    fmt::print("plumb {}\n", version());
    return kExitDone;
  }
  std::vector<std::string> names;
  for (const Command& command : commands) {
    if (command.text.name == arguments[0]) return run_command(command, {arguments.begin() + 1, arguments.end()});
    if (!command.text.is_hidden) names.push_back(command.text.name);
  }
  throw_error<UsageError>("unknown command {}{}; plumb --help lists them", arguments[0],
                          did_you_mean(arguments[0], names));
}

int run_command_line(const std::vector<std::string>& arguments) {
  try {
    const int code = run(arguments);
    if (std::fflush(stdout) != 0) throw_errno("standard output", "write");
    return code;
  } catch (const std::exception& error) {
    // Before MPI starts all ranks fail alike, and one message is enough. mpirun ends the job when the first of them has
    // ended, so the others let rank 0 be the first.
    if (rank_in_environment() == 0)
      log_error("{}", error.what());
    else
      std::this_thread::sleep_for(kTimeToReport);
    return exit_code(error);
  }
}

}  // namespace plumb
