// Runs that ended early are restarted: on another number of ranks, and by Slurm with the original command.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/resume_test.hpp"

namespace plumb::test {
namespace {

using Resume = ResumeTest;

TEST_F(Resume, OnOtherRanksTheSameCommandKeepsTheRowsOfAStep) {
  const Options same = {{"gradient_accumulation_steps", "6"}};
  expect_died(start("sft", 4, same, "step:3:3:kill"));
  const RunResult refused = start("sft", 5, same);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_EQ(lines_with(refused.err, "numbers of ranks: 1, 2, 3, 4, 6, 8, 12, 24").size(), 1u) << refused.err;
  expect_died(start("sft", 3, same, "step:5:0:kill"));
  const RunResult last = start("sft", 2, same);
  expect_completed(last, 4);
  EXPECT_EQ(lines_with(last.err, "gradient_accumulation_steps 12 on 2 ranks").size(), 1u) << last.err;
  EXPECT_EQ(outcome(), undisturbed("sft"));
}

TEST_F(Resume, ARequeuedJobOverwritesTheRunBeforeItButNotItself) {
  expect_completed(start("sft", 2, {{"seed", "5"}}), 0);
  RunOptions job;
  job.environment = {{"SLURM_JOB_ID", "7"}, {"PLUMB_FAULT", "step:3:1:kill"}};
  Options options = run_options("sft", 2);
  options["overwrite_output_dir"] = "true";
  expect_died(train("sft", 2, options, job));
  job.environment = {{"SLURM_JOB_ID", "7"}, {"SLURM_RESTART_COUNT", "1"}};
  expect_completed(train("sft", 2, options, job), 2);
  EXPECT_EQ(outcome(), undisturbed("sft"));
}

}  // namespace
}  // namespace plumb::test
