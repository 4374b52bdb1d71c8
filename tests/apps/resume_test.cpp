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
  Options options;
};
void PrintTo(const ResumeCase& given, std::ostream* out) { *out << given.name; }

class Resume : public ResumeTest, public testing::WithParamInterface<ResumeCase> {};

TEST_P(Resume, KilledTwiceAndGoneOnWithOnOtherRanksItEndsWithTheSameBits) {
  const auto& [name, stage, options] = GetParam();
  const Outcome undisturbed = golden(stage, 4, options);
  expect_died(start(stage, 8, options, "step:3:5:kill"));
  const RunResult second = start(stage, 4, options, "step:5:0:kill");
  expect_died(second);
  EXPECT_EQ(lines_with(second.err, "resume: goes on after step 2").size(), 1u) << second.err;
  const RunResult last = start(stage, 3, options);
  expect_completed(last, 4);
  EXPECT_EQ(outcome(), undisturbed);
  EXPECT_EQ(lines_with(last.err, "reference: log-probabilities").size(), 0u) << last.err;  // kept beside the pairs
}

TEST_P(Resume, OnOneRankItEndsWithTheSameBits) {
  const auto& [name, stage, options] = GetParam();
  const Outcome undisturbed = golden(stage, 2, options);
  expect_died(start(stage, 1, options, "step:3:0:kill"));
  expect_completed(start(stage, 1, options), 2);
  EXPECT_EQ(outcome(), undisturbed);
}

INSTANTIATE_TEST_SUITE_P(Ways, Resume,
                         testing::Values(ResumeCase{"sft", "sft", {}},
                                         ResumeCase{"sft_bfloat16", "sft", {{"dtype", "bfloat16"}}},
                                         ResumeCase{"lora_dropout", "sft", {{"lora_r", "4"}, {"lora_dropout", "0.2"}}},
                                         ResumeCase{"qlora_8bit",
                                                    "sft",
                                                    {{"lora_r", "4"},
                                                     {"quantize", "nf4"},
                                                     {"optim", "adamw_8bit"},
                                                     {"lora_target_modules", "all-linear"},
                                                     {"lora_modules_to_save", "lm_head"}}},
                                         ResumeCase{"adamw_8bit", "sft", {{"optim", "adamw_8bit"}}},
                                         ResumeCase{"reward", "reward", {}}, ResumeCase{"dpo", "dpo", {}}),
                         [](const auto& given) { return std::string(given.param.name); });

}  // namespace
}  // namespace plumb::test
