// Rounds: their layout, which prompts they have, their micro-batches, recorded rounds that are refused, and warnings.
#include "apps/rollout/round.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "apps/rollout/recorded_rounds.hpp"
#include "apps/rollout/round_guard.hpp"
#include "lib/base/check.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

TEST(RoundLayout, DividesARoundIntoWindowsAndMicroBatches) {
  const RoundLayout layout = make_round_layout({4, 2, 3}, /*num_iterations=*/2, /*num_generations=*/6);
  EXPECT_EQ(layout.rows_per_round, 24);
  EXPECT_EQ(layout.prompts_per_round(), 4);
  EXPECT_EQ(layout.steps_per_round(), 6);
  std::vector<int64_t> windows;
  for (int64_t step = 1; step <= 7; ++step) windows.push_back(layout.window_of(step));
  EXPECT_EQ(windows, (std::vector<int64_t>{0, 1, 2, 0, 1, 2, 0}));
  EXPECT_EQ(layout.round_of(6), 1);
  EXPECT_EQ(layout.round_of(7), 2);
  EXPECT_TRUE(layout.begins_round(7));
  EXPECT_FALSE(layout.begins_round(6));
  EXPECT_EQ(layout.rows_of(2, 1), (RowRange{20, 24}));
  EXPECT_EQ(layout.rows_of(0, 2).size(), 0);
}

TEST(RoundLayout, OfRecordedRoundsMayLeaveMicroBatchesShort) {
  const RoundLayout layout = recorded_round_layout({3, 3, 1}, 1, 4, 8);
  EXPECT_EQ(layout.rows_of(0, 1), (RowRange{3, 6}));
  EXPECT_EQ(layout.rows_of(0, 2), (RowRange{6, 8}));
  EXPECT_EQ(recorded_round_layout({8, 8, 2}, 1, 4, 8).rows_of(1, 1).size(), 0);
}

TEST(RoundLayout, RefusesWhatHasNoWholeGroups) {
  EXPECT_THROW(make_round_layout({4, 2, 1}, 1, 3), UsageError);
  EXPECT_THROW(recorded_round_layout({8, 1, 1}, 1, 3, 8), UsageError);
  EXPECT_THROW(recorded_round_layout({8, 1, 3}, 1, 4, 8), UsageError);  // windows of 8 / 3
  EXPECT_THROW(recorded_round_layout({1, 7, 1}, 1, 4, 8), UsageError);  // no room
}

TEST(PromptOrder, HasEveryPromptOnceAnEpochButThoseThatFillNoRound) {
  const PromptOrder order{.seed = 7, .is_shuffled = true, .num_prompts = 11, .prompts_per_round = 3};
  EXPECT_EQ(order.rounds_per_epoch(), 3);
  std::vector<int64_t> first, second;
  for (int64_t round = 1; round <= 3; ++round)
    for (const int64_t prompt : order.prompts_of(round)) first.push_back(prompt);
  for (int64_t round = 4; round <= 6; ++round)
    for (const int64_t prompt : order.prompts_of(round)) second.push_back(prompt);
  EXPECT_NE(first, second);
  for (std::vector<int64_t>* prompts : {&first, &second}) {
    std::sort(prompts->begin(), prompts->end());
    EXPECT_EQ(std::adjacent_find(prompts->begin(), prompts->end()), prompts->end());
    EXPECT_GE(prompts->front(), 0);
    EXPECT_LT(prompts->back(), 11);
  }
  EXPECT_EQ((PromptOrder{1, false, 7, 2}.prompts_of(4)), (std::vector<int64_t>{0, 1}));
}

Rollout rollout(int64_t round, int64_t row, std::vector<int32_t> completion) {
  Rollout made;
  made.round = round;
  made.row = row;
  made.prompt_ids = {5, 6};
  made.completion_ids = std::move(completion);
  made.rewards = {0.5};
  return made;
}

TEST(Round, LeavesTruncatedCompletionsOutOfTheLoss) {
  Round round{.number = 1, .rollouts = {}, .is_trained = {}, .advantages = {1, -1}};
  round.rollouts = {rollout(1, 3, {7, 8, 9}), rollout(1, 3, {7, 2})};
  for (Rollout& each : round.rollouts) {
    each.old_logps.assign(each.completion_ids.size(), -1);
    each.reference_logps.assign(each.completion_ids.size(), -2);
  }
  const std::vector<int32_t> ends = {2};
  mark_truncated(round, ends, /*masks_truncated=*/true);
  const MicroBatch batch = micro_batch_of(round, {0, 2}, 4, {});
  EXPECT_EQ(batch.token_ids, (std::vector<int64_t>{5, 6, 7, 8, 9, 5, 6, 7, 2}));
  EXPECT_EQ(batch.loss_mask, (std::vector<uint8_t>{0, 0, 0, 0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(batch.document_begin, (std::vector<int64_t>{0, 5, 9}));
  EXPECT_EQ(batch.advantages, (std::vector<double>{1, -1}));
  EXPECT_EQ(batch.old_logps.size(), 2u);
  EXPECT_EQ(batch.reference_token_logps.size(), 2u);
  EXPECT_EQ(batch.round_completions, 2);
  EXPECT_EQ(batch.round_tokens, 2);
  EXPECT_EQ(batch.number, 4);
  EXPECT_EQ(divergences(Round{1, round.rollouts, {1, 1}, {}}), (std::vector<double>{3, 2}));
  EXPECT_TRUE(micro_batch_of(round, {2, 2}, 0, {true, true}).is_empty());
  const MicroBatch shared = micro_batch_of(round, {0, 2}, 4, {.shares_prompts = true, .skips_zero_signal = true});
  EXPECT_EQ(shared.token_ids, (std::vector<int64_t>{5, 6, 7, 2}));  // the first has a signal, but is not trained
  EXPECT_EQ(shared.loss_mask, (std::vector<uint8_t>{0, 0, 1, 1}));
  EXPECT_EQ(shared.prefix_length, (std::vector<int64_t>{0}));
  EXPECT_EQ(shared.left_out_completions, 1);
  EXPECT_EQ(shared.left_out_tokens, 0);
  round.advantages[1] = 0;
  const MicroBatch skipped = micro_batch_of(round, {0, 2}, 4, {.shares_prompts = true, .skips_zero_signal = true});
  EXPECT_TRUE(skipped.is_empty());
  EXPECT_EQ(skipped.number, 4);
  EXPECT_EQ(skipped.left_out_completions, 2);
  EXPECT_EQ(skipped.left_out_tokens, 2);
  EXPECT_EQ(skipped.round_tokens, 2);
}

TEST(Round, LeavesOutCompletionsWithoutASignalWhereverTheyAre) {
  Round round{.number = 1, .rollouts = {}, .is_trained = {}, .advantages = {0, 1, 0, -1, 0, 0}};
  for (const int32_t id : {10, 11, 12, 13, 14, 15}) round.rollouts.push_back(rollout(1, 3, {id, 2}));
  for (const size_t row : {4, 5}) round.rollouts[row].prompt_ids = {8, 9};
  mark_truncated(round, std::vector<int32_t>{2}, false);
  const MicroBatch batch = micro_batch_of(round, {0, 6}, 0, {.shares_prompts = true, .skips_zero_signal = true});
  EXPECT_EQ(batch.token_ids, (std::vector<int64_t>{5, 6, 11, 2, 13, 2}));
  EXPECT_EQ(batch.prefix_length, (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(batch.advantages, (std::vector<double>{1, -1}));
  EXPECT_EQ(batch.left_out_completions, 4);
  EXPECT_EQ(batch.left_out_tokens, 8);
  round.is_trained = {0, 0, 1, 1, 1, 1};  // the second has a loss in rloo
  DocumentForm form{.shares_prompts = true, .skips_zero_signal = true, .keeps_untrained = true};
  EXPECT_EQ(micro_batch_of(round, {0, 6}, 0, form).advantages, (std::vector<double>{1, -1}));
  EXPECT_TRUE(is_left_out(round, 0, form));
  form.keeps_untrained = false;
  EXPECT_EQ(micro_batch_of(round, {0, 6}, 0, form).advantages, (std::vector<double>{-1}));
  EXPECT_EQ(micro_batch_of(round, {0, 6}, 0, {}).num_documents(), 6);
}

TEST(Round, EstimatesTheChanceThatOneOfSeveralPasses) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  Round round;
  for (const double reward : {1.0, 0.0, 1.5, kNone,  // two of four
                              0.0, 0.9, 0.0, 0.0,    // none
                              kNone, kNone, kNone, kNone}) {
    round.rollouts.push_back(rollout(1, std::ssize(round.rollouts) / 4, {7}));
    round.rollouts.back().rewards = {5.0, reward};
  }
  EXPECT_DOUBLE_EQ(pass_at(1, round, 4, 1), (0.5 + 0) / 2);
  EXPECT_DOUBLE_EQ(pass_at(2, round, 4, 1), (1 - 1.0 / 6) / 2);
  EXPECT_DOUBLE_EQ(pass_at(4, round, 4, 1), 0.5);
  EXPECT_DOUBLE_EQ(pass_at(3, round, 4, 0), 1);
  round.rollouts.erase(round.rollouts.begin(), round.rollouts.begin() + 8);
  EXPECT_TRUE(std::isnan(pass_at(1, round, 4, 1)));
}

class Recorded : public testing::Test {
 protected:
  void expect_refused(const std::vector<Rollout>& rollouts, const std::string& part) {
    const std::string path = directory_ / "rollouts.jsonl";
    write_rollouts(path, rollouts);
    try {
      measure_rollouts({path}, /*vocab_size=*/10, /*num_generations=*/2);
      ADD_FAILURE() << "expected a refusal with " << part;
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
  const TemporaryDirectory directory_;
};

TEST_F(Recorded, RoundsAreMeasuredOverFiles) {
  write_rollouts(directory_ / "1.jsonl", {rollout(4, 1, {7}), rollout(4, 1, {8, 9})});
  write_rollouts(directory_ / "2.jsonl", {rollout(5, 2, {7}), rollout(5, 2, {8})});
  const RecordedSize size = measure_rollouts({directory_ / "1.jsonl", directory_ / "2.jsonl"}, 10, 2);
  EXPECT_EQ(size.num_rounds, 2);
  EXPECT_EQ(size.rows_per_round, 2);
  EXPECT_EQ(size.num_rewards, 1);
  EXPECT_EQ(size.max_tokens, 4);
}

TEST_F(Recorded, HostileFilesAreRefused) {
  expect_refused({rollout(1, 1, {7}), rollout(1, 2, {8})}, "one after the other");
  expect_refused({rollout(1, 1, {7}), rollout(1, 1, {8}), rollout(1, 1, {9})}, "--num_generations");
  expect_refused({rollout(1, 1, {7}), rollout(1, 1, {70})}, "70");
  expect_refused({rollout(1, 1, {7}), rollout(1, 1, {7}), rollout(3, 1, {7}), rollout(3, 1, {7})}, "round");
}

TEST_F(Recorded, ARoundIsReadAsItWasWritten) {
  Round round{.number = 12, .rollouts = {}, .is_trained = {}, .advantages = {}};
  round.rollouts = {rollout(12, 1, {7}), rollout(12, 1, {8})};
  round.rollouts[0].old_logps = {-0.1f};
  round.rollouts[0].rewards = {std::numeric_limits<double>::quiet_NaN()};
  write_round(directory_.path(), round);
  const std::vector<Rollout> read = read_round(directory_.path(), 12, 10, 2);
  EXPECT_EQ(read[0].old_logps, round.rollouts[0].old_logps);
  EXPECT_TRUE(std::isnan(read[0].rewards[0]));
  EXPECT_EQ(read[1].completion_ids, round.rollouts[1].completion_ids);
  EXPECT_THROW(read_round(directory_.path(), 12, 10, 4), DataError);
  EXPECT_THROW(read_round(directory_.path(), 13, 10, 2), Error);
}

TEST(RoundGuard, WarnsOnceAfterFiveRoundsInARow) {
  RoundGuard guard;
  const std::vector<Metric> bad = {{"frac_reward_zero_std", 0.75}, {"completions/clipped_ratio", 0.1}};
  size_t num_warnings = 0;
  for (int round = 0; round < 9; ++round) num_warnings += guard.add(bad).size();
  EXPECT_EQ(num_warnings, 1u);
}

}  // namespace
}  // namespace plumb
