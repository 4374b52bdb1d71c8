// Rollouts read back as they were written, and files that are none are refused with path and line.
#include "io/records/rollouts.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

const TemporaryDirectory& directory() {
  static const TemporaryDirectory directory;
  return directory;
}

Rollout rollout(int64_t round, int64_t row, std::vector<double> rewards) {
  return {.round = round, .row = row, .prompt_ids = {1, 5}, .completion_ids = {7, 2}, .rewards = std::move(rewards)};
}

std::string refusal(const std::string& lines) {
  const std::string path = directory().write("bad.jsonl", lines);
  return refusal_of<DataError>([&] {
    RolloutReader reader(path, 10);
    while (!reader.next_round().empty()) {
    }
  });
}

TEST(Rollouts, ReadBackRoundByRound) {
  const std::string path = directory() / "round.jsonl";
  const double none = std::numeric_limits<double>::quiet_NaN();
  std::vector<Rollout> written = {rollout(3, 9, {0.1, none}), rollout(3, 9, {-1e-300, 2}), rollout(4, 0, {1, 1}),
                                  rollout(4, 1, {1.0 / 3, 0})};
  written[0].text = "a \"line\"\n";
  written[0].is_truncated = true;
  written[1].old_logp = -0.1;
  written[1].reference_logp = -12.75;
  written[2].old_logps = {-0.1f, -1e-30f};
  written[2].reference_logps = {0, -7};
  write_rollouts(path, written);
  RolloutReader reader(path, 10);
  EXPECT_EQ(reader.num_rollouts(), 4);
  const std::vector<Rollout> first = reader.next_round();
  EXPECT_EQ(reader.where(1), path + ":2: row 1");
  const std::vector<Rollout> second = reader.next_round();
  EXPECT_TRUE(reader.next_round().empty());
  ASSERT_EQ(first.size(), 2u);
  ASSERT_EQ(second.size(), 2u);
  for (size_t i = 0; i < 4; ++i) {
    const Rollout& got = i < 2 ? first[i] : second[i - 2];
    EXPECT_EQ(to_json(got), to_json(written[i]));
    EXPECT_EQ(got.old_logps, written[i].old_logps);
    for (size_t k = 0; k < 2; ++k)
      EXPECT_TRUE(got.rewards[k] == written[i].rewards[k] || std::isnan(written[i].rewards[k]));
  }
}

TEST(Rollouts, ThatAreNoneAreRefusedWithPathAndLine) {
  const std::string good = R"({"round": 0, "row": 1, "prompt_ids": [1], "completion_ids": [2], "rewards": [1]})";
  EXPECT_EQ(refusal(good + "\n"), kAccepted);
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string line = good;
    line.replace(line.find(from), from.size(), to);
    return refusal(good + "\n" + line + "\n");
  };
  const std::string where = directory() / "bad.jsonl:2: row 1: ";
  EXPECT_EQ(changed("\"row\": 1, ", ""), where +
                                             "expected the key row; a rollout has round, row, prompt_ids, "
                                             "completion_ids and rewards");
  EXPECT_EQ(changed("\"row\": 1", "\"row\": -1"), where + "row: expected an integer of at least 0, got -1");
  EXPECT_EQ(changed("\"row\": 1", "\"row\": 1.5"), where + "row: expected an integer of at least 0, got 1.5");
  EXPECT_EQ(changed("\"row\": 1", "\"row\": 1, \"extra\": 2"),
            where +
                "expected the keys round, row, prompt_ids, completion_ids, rewards, text, truncated, old_logp, "
                "reference_logp, old_logps, reference_logps, got \"extra\"");
  EXPECT_EQ(changed("[1], \"completion", "[10], \"completion"),
            where + "prompt_ids: expected token ids from 0 to 9, which the model has, got 10");
  EXPECT_EQ(changed("[2]", "[]"), where + "completion_ids: expected an array of at least one token id, got array");
  EXPECT_EQ(changed("[2]", "[\"2\"]"),
            where + "completion_ids: expected token ids from 0 to 9, which the model has, got string");
  EXPECT_EQ(changed("\"rewards\": [1]", "\"rewards\": [1, 2]"),
            where + "rewards: expected 1, as many as in the first line, got 2");
  EXPECT_EQ(changed("\"rewards\": [1]", "\"rewards\": [true]"),
            where + "rewards: expected numbers that are finite, or null, got boolean");
  EXPECT_EQ(changed("\"rewards\": [1]", "\"rewards\": 1"),
            where + "rewards: expected an array of one number or null per reward, got 1");
  EXPECT_EQ(changed("\"round\": 0", "\"round\": 2"),
            where + "round: expected 0 or 1, since rounds follow each other, got 2");
  EXPECT_EQ(changed("[1]}", "[1], \"old_logp\": \"0\"}"), where + "old_logp: expected a finite number, got string");
  EXPECT_EQ(changed("[1]}", "[1], \"old_logps\": [1, 2]}"),
            where + "old_logps: expected an array of 1 numbers, one per token of the completion, got array");
  EXPECT_EQ(changed("[1]}", "[1], \"old_logps\": [1e300]}"),
            where + "old_logps: expected numbers that a float32 holds, got 1e+300");
  EXPECT_EQ(changed("[1]}", "[1], \"truncated\": 1}"), where + "truncated: expected true or false, got 1");
  EXPECT_NE(changed("[1]}", "[1e999]}"), kAccepted);
  const std::string next = R"({"round": 1, "row": 1, "prompt_ids": [1], "completion_ids": [2], "rewards": [1]})";
  EXPECT_EQ(refusal(good + "\n" + good + "\n" + next + "\n"),
            directory() / "bad.jsonl:3: row 2: round 1: expected 2 completions, as many as in the first round, got 1");
  EXPECT_NE(refusal(""), kAccepted);
}

}  // namespace
}  // namespace plumb
