// A bit flip in memory between two updates is detected before it reaches a checkpoint, the rank is named, and the
// resumed run ends with the same bits.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/resume_test.hpp"

namespace plumb::test {
namespace {

class MemoryCheck : public ResumeTest {
 protected:
  static void expect_found(const RunResult& result, int rank, int step) {
    EXPECT_EQ(result.exit_code, 75) << result.err << result.launcher;
    const std::vector<std::string> errors = lines_with(result.err, "error: ");
    ASSERT_EQ(errors.size(), 1u) << result.err;
    EXPECT_NE(errors[0].find("rank " + std::to_string(rank) + ": memory corruption: parameters of "), std::string::npos)
        << errors[0];
    EXPECT_NE(errors[0].find("changed after step " + std::to_string(step)), std::string::npos) << errors[0];
  }
};

TEST_F(MemoryCheck, AFlippedBitIsDetectedAndTheResumedRunIsEqual) {
  const Options every_step = {{"memory_check_steps", "1"}};
  expect_found(start("sft", 4, every_step, "memory:4:2:flip"), 2, 3);
  EXPECT_EQ(checkpoints(), (std::vector<std::string>{"step-000002"}));
  expect_found(start("sft", 3, every_step, "memory:3:1:flip"), 1, 2);
  expect_completed(start("sft", 1, every_step), 2);
  EXPECT_EQ(outcome(), undisturbed("sft", every_step));
}

TEST_F(MemoryCheck, OfAnAdapterWithMomentsIn8BitsToo) {
  const Options options = {{"memory_check_steps", "2"}, {"lora_r", "4"}, {"optim", "adamw_8bit"}};
  expect_found(start("dpo", 2, options, "memory:5:0:flip"), 0, 4);
  expect_completed(start("dpo", 2, options), 4);
}

TEST_F(MemoryCheck, CorruptedMemoryIsNotSaved) {
  expect_found(start("sft", 2, {{"memory_check_steps", "0"}}, "memory-before-save:4:1:flip"), 1, 4);
  EXPECT_EQ(checkpoints(), (std::vector<std::string>{"step-000002"}));
}

}  // namespace
}  // namespace plumb::test
