// plumb reward: a reward model, from preference pairs and a model directory.
#include "apps/commands.hpp"
#include "apps/train_stage.hpp"

namespace plumb {

int run_reward(const std::vector<std::string>& arguments) { return run_train_command(Stage::kReward, arguments); }

}  // namespace plumb
