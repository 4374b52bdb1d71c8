// The declarations of options: each is complete, its default is one of its values, and the documents name it.
#include "apps/options/option.hpp"

#include <gtest/gtest.h>

#include <set>

#include "apps/commands/commands.hpp"
#include "apps/options/train_options.hpp"
#include "apps/options/words.hpp"
#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

/// The text that run.json records for a value of the option.
std::string value_of(const BoundOption& bound, const std::string& text) { return bound.set({text}); }

std::string refusal(const BoundOption& bound, const std::string& text) {
  return message_of<UsageError>([&] { bound.set({text}); });
}

TEST(Options, EveryCommandDeclaresEachOnceWithGroupAndHelp) {
  for (const Command& command : all_commands()) {
    std::set<std::string> names;
    for (const Option& option : command.options) {
      SCOPED_TRACE(command.text.name + " --" + option.name);
      EXPECT_TRUE(names.insert(option.name).second) << "declared twice";
      EXPECT_GE(option.help.size(), 8u) << option.help;
      EXPECT_FALSE(option.value_name.empty());
    }
    for (const std::string& required : command.text.required) EXPECT_TRUE(names.contains(required)) << required;
    EXPECT_FALSE(command.text.summary.empty() || command.text.example.empty()) << command.text.name;
  }
}

TEST(Options, TakeTheirOwnDefaultsAndChoicesAndNothingElse) {
  int num_choices = 0;
  for (const Stage stage : kStages) {
    TrainOptions options = default_options(stage);
    for (const BoundOption& bound : bind_options(options)) {
      const Option& option = bound.option;
      SCOPED_TRACE(std::string(name_of(stage)) + " --" + option.name);
      if (!option.default_text.empty() && !option.is_list) {
        EXPECT_EQ(value_of(bound, option.default_text), option.default_text);
      }
      for (const std::string& choice : option.choices) EXPECT_EQ(value_of(bound, choice), choice);
      if (option.choices.empty()) continue;
      ++num_choices;
      EXPECT_NE(refusal(bound, "nonsense").find("expected one of"), std::string::npos);
    }
  }
  EXPECT_GE(num_choices, 20);
}

TEST(Options, RefuseNumbersOutOfRangeAndTextThatIsNoNumber) {
  int64_t count = 1;
  double share = 0;
  bool flag = false;
  const BoundOption counts = declare("count", OptionGroup::kData, count, "a count", {.range = between(1, 1e6)});
  EXPECT_EQ(value_of(counts, "12"), "12");
  EXPECT_EQ(count, 12);
  for (const char* text : {"0", "1000001"})
    EXPECT_EQ(refusal(counts, text), std::string("--count: expected 1 to 1000000, got ") + text);
  for (const char* text : {"many", "1.5", "", " 1", "1 ", "99999999999999999999", "+-1"})
    EXPECT_EQ(refusal(counts, text), "--count: expected a whole number, got '" + std::string(text) + "'");
  const BoundOption shares = declare("share", OptionGroup::kData, share, "a share", {.range = from_to_below(0, 1)});
  EXPECT_EQ(value_of(shares, "0.25"), "0.25");
  for (const char* text : {"1", "-0.1", "nan", "inf"})
    EXPECT_NE(refusal(shares, text).find("expected 0 to below 1"), std::string::npos);
  const BoundOption limits = declare("limit", OptionGroup::kData, share, "a limit", {.range = or_infinite(above(0))});
  EXPECT_EQ(value_of(limits, "inf"), "inf");
  EXPECT_EQ(refusal(limits, "0"), "--limit: expected more than 0, got 0");
  EXPECT_NE(refusal(limits, "nan"), "");
  const BoundOption plain = declare("plain", OptionGroup::kData, share, "any number");
  EXPECT_EQ(refusal(plain, "inf"), "--plain: expected a finite number, got inf");
  const BoundOption flags = declare("flag", OptionGroup::kData, flag, "a flag");
  EXPECT_EQ(value_of(flags, "Yes"), "true");
  EXPECT_EQ(value_of(flags, "0"), "false");
  EXPECT_EQ(refusal(flags, "maybe"), "--flag: expected true or false, got 'maybe'");
}

TEST(Options, ListsOfNumbersTakeCommasAndListsOfTextDoNot) {
  std::vector<double> weights;
  std::vector<std::string> files;
  declare("weights", OptionGroup::kData, weights, "weights").set({"0.5,1", "2"});
  EXPECT_EQ(weights, (std::vector<double>{0.5, 1, 2}));
  declare("files", OptionGroup::kData, files, "files").set({"a,b c", "d"});
  EXPECT_EQ(files, (std::vector<std::string>{"a,b c", "d"}));
}

TEST(Options, ListsAreRecordedSoThatTheyReadBack) {
  const std::vector<std::string> words = {"a.jsonl", "my rows.jsonl", "", "\"x\" \\", "a\"b", "it's", "c\\d"};
  EXPECT_EQ(join_words({"a.jsonl", "my rows.jsonl"}), R"(a.jsonl "my rows.jsonl")");
  EXPECT_EQ(split_words(join_words(words)), words);
  EXPECT_EQ(split_words("  a  b "), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(split_words("\"never closed"), (std::vector<std::string>{"never closed"}));
}

TEST(Options, SayWhatMayChangeWhenARunResumes) {
  EXPECT_EQ(on_resume("learning_rate"), OnResume::kMustMatch);
  EXPECT_EQ(on_resume("save_steps"), OnResume::kMayChange);
  EXPECT_EQ(on_resume("output_dir"), OnResume::kNotCompared);
  EXPECT_EQ(on_resume("gradient_accumulation_steps"), OnResume::kSameBatch);
  EXPECT_EQ(on_resume("contents of data"), OnResume::kMustMatch);
}

TEST(Options, AreAllNamedInTheReadmeOfApps) {
  const std::string readme = read_text_file(PLUMB_SOURCE_DIR "/apps/README.md", 1 << 20);
  const size_t begin = readme.find("\n## Options"), end = readme.find("\n## Outputs");
  ASSERT_TRUE(begin < end && end != std::string::npos);
  const std::string section = readme.substr(begin, end - begin);
  for (const Option& option : training_options())
    EXPECT_NE(section.find('`' + option.name + '`'), std::string::npos) << option.name;
}

}  // namespace
}  // namespace plumb
