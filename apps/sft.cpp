// plumb sft: supervised fine-tuning, from rows and a model directory to a fine-tuned model directory.
#include "apps/commands.hpp"
#include "apps/train_stage.hpp"

namespace plumb {

int run_sft(const std::vector<std::string>& arguments) { return run_train_command(Stage::kSft, arguments); }

}  // namespace plumb
