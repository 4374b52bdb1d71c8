// Runs that are killed and started again with the same command end with the metrics and weights of one that nothing
// disturbed, to the bit: any stage, any way of training, on the same and on other numbers of ranks.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/resume_test.hpp"

namespace plumb::test {
namespace {

struct ResumeCase {
  const char* name;
  const char* stage;
  int last_ranks;  // that end the run, after 8 and 4
  Options options;
};
void PrintTo(const ResumeCase& given, std::ostream* out) { *out << given.name; }

class Resume : public ResumeTest, public testing::WithParamInterface<ResumeCase> {};

TEST_P(Resume, KilledTwiceAndGoneOnWithOnOtherRanksItEndsWithTheSameBits) {
  const ResumeCase& given = GetParam();
  const Outcome undisturbed = golden(given.stage, 4, given.options);
  expect_died(start(given.stage, 8, given.options, "step:3:5:kill"));
  const RunResult second = start(given.stage, 4, given.options, "step:5:0:kill");
  expect_died(second);
  EXPECT_EQ(lines_with(second.err, "resuming after step 2").size(), 1u) << second.err;
  const RunResult last = start(given.stage, given.last_ranks, given.options);
  expect_completed(last, 4);
  EXPECT_EQ(outcome(), undisturbed);
  EXPECT_EQ(lines_with(last.err, "reference: log-probabilities").size(), 0u) << last.err;  // kept beside the pairs
}

TEST_F(ResumeTest, WithTheVerySameCommandOnOtherRanksAStepKeepsItsRows) {
  const Outcome undisturbed = golden("sft", 4, {});
  const Options same = {{"gradient_accumulation_steps", "3"}};
  expect_died(start("sft", 8, same, "step:3:5:kill"));
  const RunResult refused = start("sft", 5, same);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_EQ(lines_with(refused.err, "numbers of ranks: 1, 2, 3, 4, 6, 8, 12, 24").size(), 1u) << refused.err;
  expect_died(start("sft", 6, same, "step:5:0:kill"));
  const RunResult last = start("sft", 2, same);
  expect_completed(last, 4);
  EXPECT_EQ(lines_with(last.err, "gradient_accumulation_steps is 12 on 2 ranks").size(), 1u) << last.err;
  EXPECT_EQ(outcome(), undisturbed);
}

TEST_F(ResumeTest, AJobThatIsPutBackIntoTheQueueOverwritesWhatWasThereBeforeItAndNotItself) {
  const Outcome undisturbed = golden("sft", 2, {});
  expect_completed(start("sft", 2, {{"seed", "5"}}), 0);
  RunOptions job;
  job.environment = {{"SLURM_JOB_ID", "7"}, {"PLUMB_FAULT", "step:3:1:kill"}};
  Options options = run_options("sft", 2);
  options["overwrite_output_dir"] = "true";
  expect_died(train("sft", 2, options, job));
  job.environment = {{"SLURM_JOB_ID", "7"}, {"SLURM_RESTART_COUNT", "1"}};
  expect_completed(train("sft", 2, options, job), 2);
  EXPECT_EQ(outcome(), undisturbed);
}

const ResumeCase kCases[] = {
    {"sft", "sft", 3, {}},
    {"bfloat16", "sft", 1, {{"dtype", "bfloat16"}}},
    {"lora_dropout", "sft", 3, {{"lora_r", "4"}, {"lora_dropout", "0.2"}}},
    {"qlora_8bit",
     "sft",
     1,
     {{"lora_r", "4"},
      {"quantize", "nf4"},
      {"optim", "adamw_8bit"},
      {"lora_target_modules", "all-linear"},
      {"lora_modules_to_save", "lm_head"}}},
    {"adamw_8bit", "sft", 6, {{"optim", "adamw_8bit"}}},
    {"reward", "reward", 4, {}},
    {"dpo", "dpo", 1, {}},
};
INSTANTIATE_TEST_SUITE_P(Ways, Resume, testing::ValuesIn(kCases),
                         [](const auto& given) { return std::string(given.param.name); });

}  // namespace
}  // namespace plumb::test
