// plumb sft, plumb reward, plumb dpo: one stage of training, from rows and a model directory to a model directory.
#include <fmt/format.h>

#include "apps/commands/commands.hpp"
#include "apps/options/train_options.hpp"
#include "apps/run/control.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "apps/train/stage.hpp"
#include "lib/base/check.hpp"

namespace plumb {

static int run_train_command(Stage stage, const std::vector<std::string>& arguments) {
  TrainOptions options = default_options(stage);
  const std::string command = fmt::format("plumb {}", name_of(stage));
  OptionsDescription description("options of " + command);
  declare(description, options);
  if (!parse_options(command + " --model DIR --data FILE... --output_dir DIR", description,
                     {"model", "data", "output_dir"}, arguments, &options.texts))
    return kExitDone;
  validate(options);
  stop_on_signals();  // also of one that comes while MPI starts
  return run_on_ranks([&](const Communicator& comm) {
    train_stage(comm, options);
    return static_cast<int>(kExitDone);
  });
}

int run_sft(const std::vector<std::string>& arguments) { return run_train_command(Stage::kSft, arguments); }
int run_reward(const std::vector<std::string>& arguments) { return run_train_command(Stage::kReward, arguments); }
int run_dpo(const std::vector<std::string>& arguments) { return run_train_command(Stage::kDpo, arguments); }

}  // namespace plumb
