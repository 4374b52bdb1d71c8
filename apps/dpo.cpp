// plumb dpo: direct preference optimisation, from preference pairs and a model directory.
#include "apps/commands.hpp"
#include "apps/train_stage.hpp"

namespace plumb {

int run_dpo(const std::vector<std::string>& arguments) { return run_train_command(Stage::kDpo, arguments); }

}  // namespace plumb
