// The checkpoint with the best evaluation is kept, across restarts too, and --load_best_model_at_end exports its model.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/resume_test.hpp"

namespace plumb::test {
namespace {

class BestModel : public ResumeTest {
 protected:
  /// Evaluated and saved after every second step.
  Options options(Options more) const {
    more.insert({{"max_steps", "12"},
                 {"eval_steps", "2"},
                 {"learning_rate", "0.02"},
                 {"lr_scheduler_type", "constant"},
                 {"save_total_limit", "1"}});
    return more;
  }

  /// The step of the largest eval_loss.
  int worst_step() const {
    const std::vector<nlohmann::json> lines = metrics("eval_loss");
    EXPECT_EQ(lines.size(), 6u);
    return std::max_element(
               lines.begin(), lines.end(),
               [](const nlohmann::json& a, const nlohmann::json& b) { return a["eval_loss"] < b["eval_loss"]; })
        ->at("step");
  }
  static std::string name_of(int step) { return (step < 10 ? "step-00000" : "step-0000") + std::to_string(step); }
};

// Here the largest loss counts as best, because it occurs early.
TEST_F(BestModel, IsKeptAndExportedAfterAKill) {
  const Options best = options(
      {{"load_best_model_at_end", "true"}, {"metric_for_best_model", "eval_loss"}, {"greater_is_better", "true"}});
  expect_died(start("sft", 4, best, "step:9:1:kill"));
  expect_died(start("sft", 3, best, "step:12:1:kill"));  // only the export remains
  expect_completed(start("sft", 2, best), 12);
  const int step = worst_step();
  ASSERT_LT(step, 8) << "this test needs falling losses";
  EXPECT_EQ(checkpoints(), (std::vector<std::string>{name_of(step), "step-000012"}));
  const Options until_best = options({{"max_steps", std::to_string(step)}, {"output_dir", "until_best"}});
  EXPECT_EQ(start("sft", 1, until_best).exit_code, 0);
  EXPECT_EQ(outcome().weights, outcome("until_best").weights);
}

TEST_F(BestModel, ByDefaultTheLastModelIsExported) {
  const Options best = options({{"metric_for_best_model", "loss"}, {"greater_is_better", "true"}});
  expect_completed(start("sft", 2, best), 0);
  EXPECT_EQ(checkpoints(), (std::vector<std::string>{name_of(worst_step()), "step-000012"}));
  const RunResult least = start("sft", 1, options({{"load_best_model_at_end", "true"}, {"output_dir", "least"}}));
  EXPECT_EQ(least.exit_code, 0);
  EXPECT_EQ(lines_with(least.err, "the best model is that").size(), 0u) << "this test needs falling losses";
  EXPECT_EQ(outcome().weights, outcome("least").weights);
}

TEST_F(BestModel, IncompatibleOptionsAreRefused) {
  const auto refused = [&](Options more, const std::string& part) {
    more.insert({{"load_best_model_at_end", "true"}, {"eval_steps", "2"}});
    expect_refused(start("sft", 1, more), 2, {part});
  };
  refused({{"save_steps", "3"}}, "multiple of --eval_steps");
  refused({{"save_steps", "0"}}, "multiple of --eval_steps");
  refused({{"eval_steps", "0"}}, "multiple of --eval_steps");
  refused({{"metric_for_best_model", "eval_accuracy"}}, "mean_token_accuracy");
}

}  // namespace
}  // namespace plumb::test
