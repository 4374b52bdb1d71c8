#include "apps/commands/commands.hpp"

namespace plumb {

std::vector<Command> all_commands() {
  return {sft_command(),      reward_command(),  dpo_command(),      grpo_command(),    rloo_command(),
          pipeline_command(), auto_command(),    evaluate_command(), score_command(),   generate_command(),
          prepare_command(),  inspect_command(), tokenize_command(), plan_command(),    doctor_command(),
          submit_command(),   status_command(),  report_command(),   compare_command(), merge_command(),
          quantize_command(), export_command(),  init_command(),     resize_command(),  completion_command(),
          man_command()};
}

}  // namespace plumb
