// plumb COMMAND [--option value ...]: finds the command and turns an error into a message and an exit code.
#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "apps/commands/commands.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/base/text_format.hpp"

namespace {

struct Command {
  std::string_view name;
  std::string_view help;
  int (*run)(const std::vector<std::string>& arguments);
};

constexpr std::array kCommands = {
    Command{"sft", "fine-tune a model on rows of instructions or text", plumb::run_sft},
    Command{"reward", "train a reward model on preference pairs", plumb::run_reward},
    Command{"dpo", "align a model with preference pairs", plumb::run_dpo},
    Command{"pipeline", "sft, reward and dpo in one job, restarted at the unfinished stage", plumb::run_pipeline},
    Command{"auto", "only a model and data: the rows decide which stages run", plumb::run_auto},
    Command{"evaluate", "loss, perplexity and accuracy of a model on rows", plumb::run_evaluate},
    Command{"score", "rewards of rows", plumb::run_score},
    Command{"generate", "text from a model", plumb::run_generate},
    Command{"prepare", "tokenize rows into HDF5 shards", plumb::run_prepare},
    Command{"inspect", "show rows decoded, with what is trained", plumb::run_inspect},
    Command{"tokenize", "JSONL {\"text\"} on standard input to {\"ids\"}", plumb::run_tokenize},
    Command{"plan", "bytes per rank of a run, without running it", plumb::run_plan},
    Command{"status", "where a run or pipeline stands, for people and cron", plumb::run_status},
    Command{"report", "report.html of a run, also while it goes on", plumb::run_report},
    Command{"merge", "a model with an adapter in its weights", plumb::run_merge},
    Command{"quantize", "a model in NF4, as bitsandbytes stores it", plumb::run_quantize},
    Command{"init", "a model directory with random weights", plumb::run_init},
};

void print_help() {
  fmt::print("usage: [mpirun -n N] plumb COMMAND [--option value ...] [--config FILE.ini]\n\n");
  for (const Command& command : kCommands) fmt::print("  {:<10} {}\n", command.name, command.help);
  fmt::print("\nplumb COMMAND --help lists the options of a command.\n");
}

int dispatch(const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    print_help();
    return arguments.empty() ? plumb::kExitUsage : plumb::kExitDone;
  }
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    if (command.name == arguments[0]) return command.run({arguments.begin() + 1, arguments.end()});
    names.emplace_back(command.name);
  }
  plumb::throw_error<plumb::UsageError>("unknown command {}{}; plumb --help lists them", arguments[0],
                                        plumb::did_you_mean(arguments[0], names));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return dispatch({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    // before MPI starts all ranks fail alike: one message is enough
    if (plumb::rank_in_environment() == 0) plumb::log_error("{}", error.what());
    return plumb::exit_code(error);
  }
}
