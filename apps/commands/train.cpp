// plumb sft, plumb reward, plumb dpo, plumb grpo, plumb rloo: one stage of training, from rows and a model directory to
// a model directory.
#include <fmt/format.h>

#include "apps/commands/commands.hpp"
#include "apps/options/train_options.hpp"
#include "apps/run/data_files.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "apps/run/stop_request.hpp"
#include "apps/train/stage.hpp"
#include "lib/base/check.hpp"

namespace plumb {

static Command train_command(Stage stage, const std::string& summary, const std::string& data) {
  const std::string name(name_of(stage));
  const auto run = [stage](const Settings& settings) {
    const TrainOptions options = parse_train_options(stage, settings);
    validate(options);
    stop_on_signals();  // also of one that comes while MPI starts
    return run_on_ranks([&](const Communicator& comm) {
      train_stage(comm, with_files(comm, options));
      return static_cast<int>(kExitDone);
    });
  };
  const bool is_rollout = makes_rollouts(stage);
  return {
      {.name = name,
       .summary = summary,
       .usage = is_rollout ? "--model DIR (--data FILE... (--reward_model DIR | --reward_funcs NAME...) | --rollouts "
                             "FILE...) --output_dir DIR [--option value ...]"
                           : "--model DIR --data FILE... --output_dir DIR [--option value ...]",
       .example = fmt::format("mpirun -n 4 plumb {} --model MODEL_DIR --data {} --output_dir run", name, data),
       .required = is_rollout ? std::vector<std::string>{"model", "output_dir"}
                              : std::vector<std::string>{"model", "data", "output_dir"}},
      training_options(stage),
      run};
}

Command sft_command() {
  return train_command(Stage::kSft, "fine-tune a model on rows of instructions or text", "rows.jsonl");
}
Command reward_command() {
  return train_command(Stage::kReward, "train a reward model on preference pairs", "pairs.jsonl");
}
Command dpo_command() { return train_command(Stage::kDpo, "align a model with preference pairs", "pairs.jsonl"); }
Command grpo_command() {
  return train_command(Stage::kGrpo, "train a model on its own completions by their rewards (GRPO and relatives)",
                       "prompts.jsonl --reward_model REWARD_MODEL_DIR");
}
Command rloo_command() {
  return train_command(Stage::kRloo, "train a model on its own completions by their rewards (RLOO)",
                       "prompts.jsonl --reward_model REWARD_MODEL_DIR");
}

}  // namespace plumb
