// The commands of the program, one file each.
#pragma once

#include <vector>

#include "apps/options/command.hpp"

namespace plumb {

Command sft_command();
Command reward_command();
Command dpo_command();
Command grpo_command();
Command rloo_command();
Command pipeline_command();
Command auto_command();
Command evaluate_command();
Command score_command();
Command generate_command();
Command prepare_command();
Command inspect_command();
Command tokenize_command();
Command plan_command();
Command doctor_command();
Command status_command();
Command report_command();
Command compare_command();
Command submit_command();
Command merge_command();
Command quantize_command();
Command export_command();
Command init_command();
Command resize_command();
// hidden: their output is installed
Command completion_command();
Command man_command();

/// All of them, in the order of plumb --help.
std::vector<Command> all_commands();

}  // namespace plumb
