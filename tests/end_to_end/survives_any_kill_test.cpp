// A run that is killed at any point on any rank, and restarted with the same command, ends with the metrics and weights
// of an undisturbed run, bit by bit: for any stage and kind of training, also on another number of ranks. Kills in
// every phase on 8 ranks are in the fault table of tests/faults.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/resume_test.hpp"

namespace plumb::test {
namespace {

struct KillCase {
  const char* name;
  const char* stage;
  int num_ranks[3];  // of the start killed in step 3, the one killed in step 5, and the last one
  Options options;
};
void PrintTo(const KillCase& given, std::ostream* out) { *out << given.name; }

class SurvivesAnyKill : public ResumeTest, public testing::WithParamInterface<KillCase> {};

TEST_P(SurvivesAnyKill, AndEndsWithTheSameBits) {
  const auto& [name, stage, num_ranks, options] = GetParam();
  expect_died(start(stage, num_ranks[0], options, "step:3:" + std::to_string(num_ranks[0] - 1) + ":kill"));
  const RunResult second = start(stage, num_ranks[1], options, "step:5:0:kill");
  expect_died(second);
  EXPECT_EQ(lines_with(second.err, "resuming after step 2").size(), 1u) << second.err;
  const RunResult last = start(stage, num_ranks[2], options);
  expect_completed(last, 4);
  EXPECT_EQ(outcome(), undisturbed(stage, options));
  EXPECT_EQ(lines_with(last.err, "reference: log-probabilities").size(), 0u) << last.err;  // stored beside the pairs
}

const KillCase kCases[] = {
    {"sft", "sft", {4, 2, 3}, {}},
    {"bfloat16", "sft", {3, 2, 1}, {{"dtype", "bfloat16"}}},
    {"lora_dropout", "sft", {2, 4, 1}, {{"lora_r", "4"}, {"lora_dropout", "0.2"}}},
    {"qlora_8bit",
     "sft",
     {3, 2, 1},
     {{"lora_r", "4"},
      {"quantize", "nf4"},
      {"optim", "adamw_8bit"},
      {"lora_target_modules", "all-linear"},
      {"lora_modules_to_save", "lm_head"}}},
    {"adamw_8bit", "sft", {2, 3, 4}, {{"optim", "adamw_8bit"}}},
    {"reward", "reward", {2, 3, 4}, {}},
    {"dpo", "dpo", {4, 2, 1}, {}},
};
INSTANTIATE_TEST_SUITE_P(Of, SurvivesAnyKill, testing::ValuesIn(kCases),
                         [](const auto& given) { return std::string(given.param.name); });

using SurvivesAnyKillOfASave = ResumeTest;

TEST_F(SurvivesAnyKillOfASave, AndEndsWithTheSameBits) {
  struct Point {
    std::string name;
    int after_step;     // from which the run resumes
    int num_ranks = 1;  // then
  };
  const std::vector<Point> points = {{"checkpoint-begun:4:0", 2},        {"checkpoint-synced:4:0", 2},
                                     {"checkpoint-committed:4:0", 2, 2}, {"checkpoint-renamed:4:0", 4},
                                     {"checkpoint-pruning:6:0", 6, 2},   {"checkpoint-begun:2:0", 0}};
  for (const auto& [point, after_step, num_ranks] : points) {
    SCOPED_TRACE(point);
    std::filesystem::remove_all(directory_ / "out");
    expect_died(start("sft", 2, {}, point + ":kill"));
    expect_completed(start("sft", num_ranks), after_step);
    EXPECT_EQ(outcome(), undisturbed("sft"));
    if (after_step < 6) {
      EXPECT_EQ(checkpoints(), (std::vector<std::string>{"step-000004", "step-000006"}));
    }
  }
}

}  // namespace
}  // namespace plumb::test
