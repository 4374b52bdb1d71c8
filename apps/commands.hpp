// The commands of the program, one file each. Every function takes the arguments after the command's name and returns
// the exit code; errors are thrown.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "partition/communicator.hpp"

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

/// Starts MPI and runs body on all ranks of the job. An error that all ranks agreed on ends each with its exit code;
/// one that a rank has alone is logged with its rank and ends the job at once.
int run_on_ranks(const std::function<int(const Communicator&)>& body);

/// The rank as the launcher tells it in the environment, before MPI starts; 0 without one.
int rank_in_environment();

}  // namespace plumb
