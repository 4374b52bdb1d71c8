// Rewards of texts against values by hand and against TRL's own functions (1.16), and numbers as exact rationals.
#include "apps/rewards/rewards.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "apps/rewards/exact_number.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/random.hpp"
#include "lib/text/text_pattern.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using Row = nlohmann::ordered_json;

RewardOptions options_of(RewardFunction function) {
  RewardOptions options;
  options.functions = {function};
  return options;
}

double reward(const RewardOptions& options, std::string_view completion, const Row& row = Row::object(),
              const std::vector<int32_t>& ids = {1, 2}, bool is_truncated = false) {
  return RewardFunctions(options)({completion, ids, is_truncated, row}, "rows.jsonl:1").at(0);
}

void expect_same(const char* a, const char* b) {
  const auto x = last_number(a), y = last_number(b);
  ASSERT_TRUE(x && y) << a << " and " << b;
  EXPECT_TRUE(*x == *y) << a << " and " << b;
}

TEST(ExactNumber, IsTheSameHoweverItIsWritten) {
  expect_same("5", "It costs $5.00.");
  expect_same("1234", "that is 1,234");
  expect_same("1234567.5", "1,234,567.50 dollars");
  expect_same("0.5", ".5");
  expect_same("0.5", "1/2");
  expect_same("0.5", "\\frac{1}{2}");
  expect_same("-0.5", "\\dfrac{-1}{2}");
  expect_same("-0.5", "-\\frac{1}{2}");
  expect_same("-7", "the change is -7 degrees");
  expect_same("-7",
              "\xe2\x88\x92"
              "7");
  expect_same("-7", "-$7");
  expect_same("3", "5-3");
  expect_same("50", "50%");
  expect_same("1500", "1.5e3");
  expect_same("0", "-0.000");
  expect_same("007", "7");
  expect_same("0.1", "0.10000000000000000000000000000000000000000");
  expect_same("\\boxed{42} because 6 * 7", "42");
  expect_same("first \\boxed{1}, then \\boxed{\\frac{3}{4}}.", "0.75");
  EXPECT_FALSE(*last_number("0.1") == *last_number("0.10000000000000000000000000000000000000001"));
  EXPECT_FALSE(*last_number("7") == *last_number("-7"));
}

TEST(ExactNumber, IsTheLastOne) {
  expect_same("there are 3, no 4 apples", "4");
  expect_same("1, 2, 3", "3");
  expect_same("1,2,3", "3");
  expect_same("1,000,5", "5");
  expect_same("3/0", "0");
  expect_same("3.5.2", "2");
  EXPECT_FALSE(last_number("no digits here."));
  EXPECT_FALSE(last_number(""));
  EXPECT_FALSE(last_number("\\boxed{none} though 5"));
  EXPECT_FALSE(last_number(std::string(5000, '7')));
}

// Any text of such pieces is read without harm, and what is found is equal to itself.
TEST(ExactNumber, IsFoundInAnyText) {
  constexpr std::array kPieces = {"0", "12", "999", ".",       ",",        "-", "/",  "$", "e", "E9",
                                  "{", "}",  " ",   "\\frac{", "\\boxed{", "#", "##", "%", "(", "\xe2\x88\x92"};
  uint64_t counter = 0;
  int num_found = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (uint64_t n = random_bits(1, 1, counter++) % 12; n > 0; --n)
      text += kPieces[random_bits(1, 2, counter++) % kPieces.size()];
    for (const auto& number : {last_number(text), marked_number(text)}) {
      if (!number) continue;
      ++num_found;
      EXPECT_TRUE(*number == *number) << text;
      EXPECT_NE(number->denominator, "0") << text;
    }
  }
  EXPECT_GT(num_found, 1000);
}

TEST(ExactNumber, MayHaveAMark) {
  EXPECT_TRUE(*marked_number("so 3 + 4\n#### 7") == *last_number("7"));
  EXPECT_TRUE(*marked_number("#### 1\n#### $1,000 in all") == *last_number("1000"));
  EXPECT_TRUE(*marked_number("#### -7") == *last_number("-7"));
  EXPECT_FALSE(marked_number("7"));
  EXPECT_FALSE(marked_number("#### seven 7"));
}

TEST(Reward, NumberComparesWithTheAnswer) {
  RewardOptions options = options_of(RewardFunction::kNumber);
  const Row row = {{"answer", "Adding up.\n#### 1,200"}};
  EXPECT_EQ(reward(options, "The answer is 1200.", row), 1);
  EXPECT_EQ(reward(options, "It is 1200, or is it 1100?", row), 0);
  EXPECT_EQ(reward(options, "", row), 0);
  EXPECT_TRUE(std::isnan(reward(options, "12", {{"answer", "none"}}))) << "no number to compare with";
  EXPECT_EQ(reward(options, "12", {{"answer", 12}}), 1);
  EXPECT_EQ(reward(options, "12", {{"answer", {"a dozen", "12"}}}), 1);
  options.needs_answer_mark = true;
  EXPECT_EQ(reward(options, "The answer is 1200.", row), 0);
  EXPECT_EQ(reward(options, "The answer is #### 1200.", row), 1);
}

TEST(Reward, MatchComparesNormalizedText) {
  RewardOptions options = options_of(RewardFunction::kMatch);
  const Row row = {{"answer", "New  York"}};
  EXPECT_EQ(reward(options, " New York\n", row), 1);
  EXPECT_EQ(reward(options, "new york", row), 0);
  EXPECT_EQ(reward(options, "It is New York", row), 0);
  EXPECT_EQ(reward(options, "", {{"answer", " "}}), 0) << "nothing never matches";
  EXPECT_EQ(reward(options, "caf\xc3\xa9", {{"answer", "cafe\xcc\x81"}}), 1) << "composed or not";
  EXPECT_EQ(reward(options, "\xff", {{"answer", "x"}}), 0);
  options.ignores_case = true;
  EXPECT_EQ(reward(options, "new york", row), 1);
  options.answer_pattern = "<answer>(.*?)</answer>";
  EXPECT_EQ(reward(options, "<answer>Rome</answer>, no: <answer> New York </answer>", row), 1);
  EXPECT_EQ(reward(options, "New York", row), 0);
}

TEST(Reward, OfPatternsAndTags) {
  RewardOptions options = options_of(RewardFunction::kFormat);
  options.format_pattern = "<b>.*</b>";
  EXPECT_EQ(reward(options, "<b>two\nlines</b>"), 1);
  EXPECT_EQ(reward(options, "<b>x</b> and more"), 0);
  options = options_of(RewardFunction::kRegex);
  options.regex = "\\bt[eé]a\\b";
  EXPECT_EQ(reward(options, "a cup of téa, please"), 1);
  EXPECT_EQ(reward(options, "steam"), 0);
  options = options_of(RewardFunction::kThink);
  EXPECT_EQ(reward(options, "<think>\nThis is my reasoning.\n</think>\nThis is my answer."), 1);
  EXPECT_EQ(reward(options, "<think>\nThis is my reasoning.\nThis is my answer."), 0);
  EXPECT_EQ(reward(options, "<think><think></think>"), 0);
  EXPECT_EQ(reward(options, " <think></think>"), 0);
  options = options_of(RewardFunction::kTags);
  EXPECT_EQ(reward(options, "<think>a</think><answer>b</answer>"), 1);
  EXPECT_EQ(reward(options, "<think>a</think>"), 0.25);
  EXPECT_EQ(reward(options, "<answer>b</answer><answer>c</answer>"), 0);
}

// TRL 1.16: get_soft_overlong_punishment(20, 5), get_cosine_scaled_reward(100), get_repetition_penalty_reward()
TEST(Reward, OfLengthsIsThatOfTrl) {
  RewardOptions options = options_of(RewardFunction::kOverlong);
  options.max_completion_length = 20;
  options.overlong_cache = 5;
  const auto of_length = [&](size_t length) {
    return reward(options, "7", {{"answer", "7"}}, std::vector<int32_t>(length, 1));
  };
  EXPECT_EQ(of_length(15), 0);
  EXPECT_EQ(of_length(16), -0.2);
  EXPECT_EQ(of_length(20), -1);
  EXPECT_EQ(of_length(21), -1);
  options = options_of(RewardFunction::kCosine);
  options.max_completion_length = 100;
  EXPECT_DOUBLE_EQ(of_length(50), 0.75);
  EXPECT_DOUBLE_EQ(of_length(0), 1);
  EXPECT_DOUBLE_EQ(of_length(200), 0.5);
  EXPECT_DOUBLE_EQ(reward(options, "8", {{"answer", "7"}}, std::vector<int32_t>(50, 1)), -0.75);
  EXPECT_DOUBLE_EQ(reward(options, "8", {{"answer", "7"}}, {}), -1);
  options = options_of(RewardFunction::kRepetition);
  EXPECT_EQ(reward(options, "", {}, {1, 2}), 0);
  EXPECT_EQ(reward(options, "", {}, {1, 2, 3, 4}), 0);
  EXPECT_DOUBLE_EQ(reward(options, "", {}, {1, 1, 1, 1, 1}), -2.0 / 3);
  EXPECT_DOUBLE_EQ(reward(options, "", {}, {1, 2, 3, 1, 2, 3, 9}), -0.2);
  options = options_of(RewardFunction::kLength);
  EXPECT_EQ(reward(options, "", {}, {1, 2, 3}), 3);
  options = options_of(RewardFunction::kTruncated);
  EXPECT_EQ(reward(options, "x"), 0);
  EXPECT_EQ(reward(options, "x", {}, {1}, true), -1);
}

TEST(Reward, CountsAndShares) {
  RewardOptions options = options_of(RewardFunction::kCount);
  options.count_text = "ee";
  EXPECT_EQ(reward(options, "eee tree bee"), 3);
  options.functions = {RewardFunction::kShare};
  options.count_text = "e";
  EXPECT_EQ(reward(options, "the eel"), 3.0 / 7);
  EXPECT_EQ(reward(options, ""), 0);
  options.count_text = "\xc3\xa9";
  EXPECT_EQ(reward(options, "\xc3\xa9\xc3\xa9x\xc3\xa9"), 0.75) << "of characters, not bytes";
}

TEST(Reward, ComesInTheOrderOfTheFunctions) {
  RewardOptions options;
  options.functions = {RewardFunction::kLength, RewardFunction::kProgram, RewardFunction::kThink};
  const RewardFunctions functions(options);
  EXPECT_EQ(functions.names(), (std::vector<std::string>{"length", "program", "think"}));
  const Row row = Row::object();
  const std::vector<int32_t> ids = {1};
  const std::vector<double> rewards = functions({"", ids, false, row}, "");
  ASSERT_EQ(rewards.size(), 3u);
  EXPECT_EQ(rewards[0], 1);
  EXPECT_TRUE(std::isnan(rewards[1])) << "another part fills it in";
  EXPECT_EQ(rewards[2], 0);
}

TEST(Reward, NeedsTheAnswerOfTheRow) {
  const RewardFunctions functions(options_of(RewardFunction::kNumber));
  const auto refusal = [&](const Row& row) {
    return refusal_of<DataError>([&] { functions.check_row(row, "rows.jsonl:3"); });
  };
  EXPECT_EQ(refusal({{"answer", "x"}}), kAccepted);
  EXPECT_EQ(refusal({{"prompt", "x"}}),
            "rows.jsonl:3: expected the answer in the column \"answer\", got none; "
            "--answer_column names another");
  EXPECT_EQ(refusal({{"answer", true}}),
            "rows.jsonl:3: answer: expected text, a number or a list of them, got boolean");
  EXPECT_NE(refusal({{"answer", Row::array()}}), kAccepted);
  EXPECT_NE(refusal(Row::array()), kAccepted);
  RewardFunctions(options_of(RewardFunction::kThink)).check_row(Row::object(), "");
}

TEST(TextPattern, FindsTheLastMatch) {
  EXPECT_EQ(TextPattern("a(.)", "--p").last_in("ab ac"), "c");
  EXPECT_EQ(TextPattern("a.", "--p").last_in("ab ac"), "ac");
  EXPECT_EQ(TextPattern("a(x)?", "--p").last_in("ax a"), "");
  EXPECT_EQ(TextPattern("q", "--p").last_in("ab ac"), std::nullopt);
  EXPECT_TRUE(TextPattern("x*", "--p").matches(""));
  EXPECT_THROW(TextPattern("", "--p"), UsageError);
  EXPECT_EQ(TextPattern("x*", "--p").last_in("\xc3\xa9"), "");
  EXPECT_EQ(TextPattern("\\w", "--p").last_in("a\xff"), "a");
}

TEST(TextPattern, GivesUpOnATextThatTakesTooLong) {
  const double start = steady_seconds();
  std::string text(4001, 'a');
  text.back() = 'b';
  EXPECT_FALSE(TextPattern("(a+)+$", "--p").matches(text));
  EXPECT_FALSE(TextPattern("(a|aa)+c", "--p").is_found_in(text));
  EXPECT_FALSE(TextPattern("(.*)*\\1x", "--p").last_in(text).has_value());
  EXPECT_LT(steady_seconds() - start, 20);
}

TEST(RewardOptions, ThatMeanNothingAreRefused) {
  const auto refusal = [](auto change) {
    RewardOptions options = options_of(RewardFunction::kThink);
    change(options);
    return refusal_of<UsageError>([&] { validate(options); });
  };
  EXPECT_EQ(refusal([](RewardOptions&) {}), kAccepted);
  EXPECT_EQ(refusal([](RewardOptions& o) { o.functions.push_back(RewardFunction::kThink); }),
            "--reward_funcs: think twice; give it once, with the sum of its weights");
  EXPECT_EQ(refusal([](RewardOptions& o) { o.functions = {RewardFunction::kFormat}; }),
            "--reward_funcs format: give --format_pattern");
  EXPECT_EQ(refusal([](RewardOptions& o) { o.regex = "x"; }),
            "--reward_pattern: only --reward_funcs regex reads it; add that, or leave it away");
  EXPECT_EQ(refusal([](RewardOptions& o) { o.functions = {RewardFunction::kFormat}, o.format_pattern = "(x"; }),
            "--format_pattern: the regular expression '(x' does not compile: missing closing parenthesis (byte 2)");
  EXPECT_NE(refusal([](RewardOptions& o) { o.answer_pattern = "x"; }), kAccepted);
  EXPECT_NE(refusal([](RewardOptions& o) { o.functions = {RewardFunction::kOverlong}, o.overlong_cache = 600; }),
            kAccepted);
  EXPECT_NE(refusal([](RewardOptions& o) { o.functions = {RewardFunction::kProgram}; }), kAccepted);
  EXPECT_EQ(refusal([](RewardOptions& o) { o.functions = {RewardFunction::kProgram}, o.program.command = "a 'b"; }),
            "--reward_program: the quote ' is not closed");
  EXPECT_NE(refusal([](RewardOptions& o) { o.program.wrapper = "nice"; }), kAccepted);
}

TEST(SplitCommand, ReadsQuotesAsAShellDoes) {
  const auto words = [](const std::string& command) { return split_command(command, "--reward_program"); };
  EXPECT_EQ(words("python3  score.py -x"), (std::vector<std::string>{"python3", "score.py", "-x"}));
  EXPECT_EQ(words(R"(a 'b c' "d \"e\" \n" f\ g '')"), (std::vector<std::string>{"a", "b c", "d \"e\" \\n", "f g", ""}));
  EXPECT_EQ(words("a $HOME;*"), (std::vector<std::string>{"a", "$HOME;*"})) << "nothing is expanded";
  for (const char* command : {"", "  ", "''", "a \"b", "a\\"}) EXPECT_THROW(words(command), UsageError) << command;
}

}  // namespace
}  // namespace plumb
