// Steps whose numbers are not finite: skipped by all ranks alike, named, and an error when they come on end.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

class SkippedSteps : public ProgramTest {
 protected:
  RunResult dpo(int num_ranks, const std::string& fault, const std::string& skips) const {
    RunOptions options;
    options.environment["PLUMB_FAULT"] = fault;
    return train("dpo", num_ranks,
                 {{"max_steps", "5"},
                  {"per_device_train_batch_size", "2"},
                  {"shuffle", "false"},
                  {"skip_nonfinite_steps", skips},
                  {"overwrite_output_dir", "true"}},
                 options);
  }
};

TEST_F(SkippedSteps, OneIsSkippedByAllRanksAndItsRowsAreNamed) {
  const RunResult result = dpo(3, "batch:2:1:nan", "true");
  EXPECT_EQ(result.exit_code, 0) << result.err << result.launcher;
  EXPECT_EQ(lines_with(result.err, "step 2 is skipped").size(), 1u) << result.err;
  const std::vector<nlohmann::json> skipped = metrics("skipped_rows");
  ASSERT_EQ(skipped.size(), 1u);
  EXPECT_EQ(skipped[0].at("step"), 2);
  EXPECT_EQ(skipped[0].at("skipped_rows"), nlohmann::json({6, 7, 8, 9, 10, 11}));
  const std::vector<nlohmann::json> logged = metrics("loss");
  EXPECT_EQ(logged.size(), 4u);
  for (const nlohmann::json& line : logged) EXPECT_TRUE(line.at("loss").is_number()) << line;
}

TEST_F(SkippedSteps, WithoutTheOptionItEndsTheRun) {
  expect_refused(dpo(2, "batch:2:1:nan", "false"), 70, {"step 2", "not finite"});
}

TEST_F(SkippedSteps, TheThirdOnEndEndsTheRun) {
  expect_refused(dpo(2, "batch:2:0:nan;batch:3:1:nan;batch:4:0:nan", "true"), 70, {"step 4", "not finite"});
  EXPECT_EQ(metrics("skipped_rows").size(), 2u);
  const RunResult result = dpo(2, "batch:1:0:nan;batch:2:1:nan;batch:4:0:nan", "true");
  EXPECT_EQ(result.exit_code, 0) << result.err;
}

}  // namespace
}  // namespace plumb::test
