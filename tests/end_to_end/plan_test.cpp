// plumb plan prints the same plan as a run with the same options.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb {
namespace {

using test::Options;

/// The lines of the plan in an output, without those that contain the measured memory of a program.
std::vector<std::string> plan_in(const std::string& output) {
  std::vector<std::string> lines;
  bool is_in_plan = false;
  std::istringstream stream(output);
  for (std::string line; std::getline(stream, line);) {
    const size_t begin = line.find("plan: ");
    if (begin != std::string::npos) line = line.substr(begin);
    is_in_plan = begin != std::string::npos || (is_in_plan && line.starts_with("  "));
    const bool is_measured = line.starts_with("  program, per rank") || line.starts_with("  sum per rank") ||
                             line.starts_with("  all ranks and nodes");
    if (is_in_plan && !is_measured) lines.push_back(line);
  }
  return lines;
}

class Plan : public test::ProgramTest {
 protected:
  /// max_length truncates the longest rows, so that the run needs what the plan assumes.
  void expect_plan_of_run(const std::string& stage, int num_ranks, Options options) const {
    options["max_length"] = "24";
    const test::RunResult trained = train(stage, num_ranks, options);
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
    options["model"] = "model";
    options["threads"] = "1";
    options["stage"] = stage;
    options["num_ranks"] = std::to_string(num_ranks);
    const test::RunResult planned = run(0, command_line("plan", options));
    ASSERT_EQ(planned.exit_code, 0) << planned.err;
    EXPECT_GE(plan_in(planned.out).size(), 7u) << planned.out;
    EXPECT_EQ(plan_in(planned.out), plan_in(trained.err));
  }
};

TEST_F(Plan, IsThatOfAnSftRun) { expect_plan_of_run("sft", 2, {{"gradient_accumulation_steps", "2"}}); }

TEST_F(Plan, IsThatOfARunInBfloat16With8BitMoments) {
  expect_plan_of_run("sft", 1, {{"dtype", "bfloat16"}, {"optim", "adamw_8bit"}, {"gradient_checkpointing", "false"}});
}

TEST_F(Plan, IsThatOfADpoRun) { expect_plan_of_run("dpo", 2, {{"per_device_train_batch_size", "2"}}); }

TEST_F(Plan, IsThatOfARunWithAnAdapterOnAQuantizedBase) {
  expect_plan_of_run("sft", 1, {{"lora_r", "4"}, {"quantize", "nf4"}, {"per_device_train_batch_size", "2"}});
}

}  // namespace
}  // namespace plumb
