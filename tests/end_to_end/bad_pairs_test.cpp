// Bad preference pairs: reward and dpo drop, count and name (by file and line) pairs without a signal; unreadable data
// end the run with one message and its exit code. Nothing becomes NaN.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

std::string pair_line(const std::string& prompt, const std::string& chosen, const std::string& rejected) {
  return json{{"prompt", prompt}, {"chosen", chosen}, {"rejected", rejected}}.dump() + "\n";
}

struct BadPairs {
  const char* name;
  std::string content;
  int exit_code;
  std::vector<std::string> message;
  bool is_tried_on_ranks = false;  // one of each kind is: of a row, of all rows, of an option, of what remains
};

void PrintTo(const BadPairs& bad, std::ostream* out) { *out << bad.name; }

const std::string kPair = pair_line("a", "b", "c");
const std::string kMarginPair = R"({"prompt":"a","chosen":"b","rejected":"c","margin":0.5})"
                                "\n";

// the error is in the last row, which on several ranks is in the slice of the last rank
const BadPairs kBadPairs[] = {
    {"MissingColumn",
     kPair + R"({"prompt":"a","chosen":"b"})",
     65,
     {"x.jsonl:2: row 1: expected a column \"rejected\" as in the first row", "got columns: prompt, chosen"},
     true},
    {"NoRejectedAtAll", R"({"prompt":"a","chosen":"b"})", 65, {"x.jsonl:1: row 0", "prompt+chosen+rejected"}},
    {"MarginThatIsText",
     kMarginPair + R"({"prompt":"a","chosen":"b","rejected":"c","margin":"much"})",
     65,
     {"x.jsonl:2: row 1: column \"margin\": expected a finite number, got \"much\""}},
    {"MarginThatIsNull",
     kMarginPair + R"({"prompt":"a","chosen":"b","rejected":"c","margin":null})",
     65,
     {"x.jsonl:2: row 1: column \"margin\": expected a finite number, got null"}},
    {"MarginThatIsNaN",
     kMarginPair + R"({"prompt":"a","chosen":"b","rejected":"c","margin":NaN})",
     65,
     {"x.jsonl:2: row 1: column 52: expected JSON"}},
    {"MarginInSomeRows",
     kMarginPair + kPair,
     65,
     {"x.jsonl:2: row 1: expected a column \"margin\" as in the first row"}},
    {"MarginThatComesLate",
     kPair + kMarginPair,
     65,
     {"x.jsonl:2: row 1: expected no column \"margin\"", "all rows have it or none"},
     true},
    {"MixedShapes",
     kPair + R"({"instruction":"a","output":"b"})",
     65,
     {"x.jsonl:2: row 1: expected a column \"chosen\" as in the first row"}},
    {"ConversationAmongTexts",
     kPair + R"({"prompt":"a","chosen":[{"role":"assistant","content":"b"}],"rejected":"c"})",
     65,
     {"x.jsonl:2: row 1: column \"chosen\": expected text, got array"}},
    {"InstructionRows", R"({"instruction":"a","output":"b"})", 65, {"x.jsonl:1: row 0", "these are rows for sft"}},
    {"ConversationsWithoutATemplate",
     R"({"chosen":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],)"
     R"("rejected":[{"role":"user","content":"a"},{"role":"assistant","content":"c"}]})",
     2,
     {"x.jsonl:1: row 0", "no chat template"},
     true},
    {"NothingRemains",
     pair_line("a", "b", "b") + pair_line("a", "", "b"),
     65,
     {"expected rows to train on, kept none of 2", "1 with an empty answer (x.jsonl:2)",
      "1 with the same text twice (x.jsonl:1)"},
     true},
};

class BadPairsTest : public ProgramTest, public testing::WithParamInterface<BadPairs> {};

TEST_P(BadPairsTest, AreRefused) {
  const BadPairs& bad = GetParam();
  directory_.write("x.jsonl", bad.content);
  for (const char* stage : {"reward", "dpo"})
    expect_refused(train(stage, 0, {{"data", "x.jsonl"}}), bad.exit_code, bad.message);
  if (bad.is_tried_on_ranks) expect_refused(train("dpo", 3, {{"data", "x.jsonl"}}), bad.exit_code, bad.message);
}

INSTANTIATE_TEST_SUITE_P(Cases, BadPairsTest, testing::ValuesIn(kBadPairs),
                         [](const auto& given) { return given.param.name; });

class DroppedPairs : public ProgramTest {
 protected:
  /// Trains on 20 good pairs and these, and expects the message, and no NaN in the log.
  void expect_kept(const std::string& stage, int num_ranks, const std::string& content,
                   const std::vector<std::string>& messages) const {
    directory_.write("x.jsonl", pairs_without_drops() + content);
    const RunResult result =
        train(stage, num_ranks,
              {{"data", "x.jsonl"}, {"max_length", "64"}, {"max_steps", "3"}, {"overwrite_output_dir", "true"}});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    for (const std::string& message : messages)
      EXPECT_NE(result.err.find(message), std::string::npos) << stage << ": " << message << " in " << result.err;
    const std::vector<json> lines = metrics("loss");
    ASSERT_EQ(lines.size(), 3u);
    for (const json& line : lines)
      for (const auto& [key, value] : line.items()) EXPECT_TRUE(value.is_number()) << key << " of " << line;
  }
  static std::string pairs_without_drops() {
    std::string text;
    for (int i = 0; i < 20; ++i) text += pair_line(std::to_string(i), " is " + std::to_string(i), " no");
    return text;
  }
};

TEST_F(DroppedPairs, AreCountedAndNamed) {
  const std::string good_again = pair_line("0", " is 0", " no");
  const std::string content = pair_line("a", "b", "b") + pair_line("a", "", "b") + pair_line("a", "b", "") +
                              pair_line(std::string(200, 'p'), "b", "c") + good_again;
  for (const int num_ranks : {0, 3}) {
    const std::vector<std::string> messages = {"kept 21 of 25 pairs", "1 with the same text twice (x.jsonl:21)",
                                               "2 with an empty answer (x.jsonl:22, x.jsonl:23)", "1 row (x.jsonl:25)"};
    std::vector<std::string> of_reward = messages, of_dpo = messages;
    of_reward.emplace_back("1 longer than max_length (x.jsonl:24)");
    of_dpo.emplace_back("1 with a prompt of max_length (x.jsonl:24)");
    expect_kept("reward", num_ranks, content, of_reward);
    expect_kept("dpo", num_ranks, content, of_dpo);
  }
}

TEST_F(DroppedPairs, ARowOfTenMegabytesIsDroppedOrTruncated) {
  const std::string long_text(10 << 20, 'y');
  for (const int num_ranks : {0, 3}) {
    expect_kept("reward", num_ranks, pair_line("a", long_text, "b"),
                {"kept 20 of 21 pairs", "1 longer than max_length (x.jsonl:21)"});
    expect_kept("dpo", num_ranks, pair_line("a", long_text, "b"), {"kept 21 of 21 pairs", "1 truncated"});
  }
}

TEST_F(DroppedPairs, AnyFiniteMarginTrains) {
  std::string content;
  for (const char* margin : {"1e300", "-1e300", "0", "1e-300"})
    content += R"({"prompt":"a","chosen":"b","rejected":"c","margin":)" + std::string(margin) + "}\n";
  directory_.write("margins.jsonl", content);
  ASSERT_EQ(train("reward", 3, {{"data", "margins.jsonl"}}).exit_code, 0);
  for (const json& line : metrics("loss")) EXPECT_TRUE(line["loss"].is_number() && line["grad_norm"].is_number());
}

TEST_F(DroppedPairs, FewerRowsThanRanksTrain) {
  directory_.write("two.jsonl", pairs(2));
  for (const char* stage : {"reward", "dpo"}) {
    const RunResult result =
        train(stage, 3, {{"data", "two.jsonl"}, {"eval_data", "two.jsonl"}, {"overwrite_output_dir", "true"}});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(metrics("eval_loss").size(), 2u);
  }
}

TEST_F(DroppedPairs, PairsAreNotForSft) {
  for (const int num_ranks : {0, 3})
    expect_refused(sft(num_ranks, {{"data", "pairs.jsonl"}}), 65,
                   {"pairs.jsonl:1: row 0", "pairs are for reward and dpo"});
}

}  // namespace
}  // namespace plumb::test
