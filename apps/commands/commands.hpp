// The commands of the program, one file each. Every function takes the arguments after the command's name and returns
// the exit code; errors are thrown.
#pragma once

#include <string>
#include <vector>

namespace plumb {

int run_sft(const std::vector<std::string>& arguments);
int run_reward(const std::vector<std::string>& arguments);
int run_dpo(const std::vector<std::string>& arguments);
int run_pipeline(const std::vector<std::string>& arguments);
int run_auto(const std::vector<std::string>& arguments);
int run_score(const std::vector<std::string>& arguments);
int run_prepare(const std::vector<std::string>& arguments);
int run_inspect(const std::vector<std::string>& arguments);
int run_tokenize(const std::vector<std::string>& arguments);
int run_plan(const std::vector<std::string>& arguments);
int run_evaluate(const std::vector<std::string>& arguments);
int run_generate(const std::vector<std::string>& arguments);
int run_status(const std::vector<std::string>& arguments);
int run_report(const std::vector<std::string>& arguments);
int run_merge(const std::vector<std::string>& arguments);
int run_quantize(const std::vector<std::string>& arguments);
int run_init(const std::vector<std::string>& arguments);

}  // namespace plumb
