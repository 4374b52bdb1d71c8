// Settings from the command line and from INI files, and how parse() interprets them.
#include "apps/options/settings.hpp"

#include <gtest/gtest.h>

#include "apps/options/ini.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

struct Values {
  std::vector<std::string> data;
  std::string columns;
  int64_t max_steps = -1;
  bool packing = false;
};

std::vector<BoundOption> bind(Values& v) {
  return {declare("data", OptionGroup::kData, v.data, "files of rows"),
          declare("columns", OptionGroup::kData, v.columns, "roles of columns"),
          declare("max_steps", OptionGroup::kSchedule, v.max_steps, "number of steps"),
          declare("packing", OptionGroup::kSchedule, v.packing, "fill rows")};
}

Settings read(const std::vector<std::string>& arguments) {
  Values values;
  return read_command_line(options_of(bind(values)), arguments, "data", "plumb test");
}

Values parse_all(const std::vector<std::string>& arguments) {
  Values values;
  parse(bind(values), read(arguments));
  return values;
}

std::string refusal(const std::vector<std::string>& arguments) {
  return message_of<UsageError>([&] { parse_all(arguments); });
}

TEST(CommandLineSettings, TakeWordsEqualSignsDashesAndFlagsWithoutValue) {
  const Values values = parse_all({"a.csv", "b c.csv", "--max-steps=7", "--packing", "--columns", "prompt=a"});
  EXPECT_EQ(values.data, (std::vector<std::string>{"a.csv", "b c.csv"}));
  EXPECT_EQ(values.columns, "prompt=a");
  EXPECT_EQ(values.max_steps, 7);
  EXPECT_TRUE(values.packing);
  EXPECT_FALSE(parse_all({"--packing", "false"}).packing);
  EXPECT_FALSE(parse_all({"--packing=off"}).packing);
  EXPECT_EQ(parse_all({"--max_steps", "-1"}).max_steps, -1);
}

TEST(CommandLineSettings, RefuseWhatIsUnknownOrGivenTwice) {
  EXPECT_EQ(refusal({"--max_step", "1"}), "unknown option --max_step; did you mean --max_steps?");
  EXPECT_EQ(refusal({"--max_steps", "1", "--max_steps", "2"}), "--max_steps: expected once, got more than once");
  EXPECT_NE(refusal({"--max_steps"}), "");
  EXPECT_NE(refusal({"--packing", "true", "stray"}).find("an argument without an option"), std::string::npos);
}

TEST(ConfigFiles, AreOverriddenByTheCommandLineOptionByOption) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("run.ini", "data = a\ndata = b\nmax-steps = 3 # few\ncolumns = \" x#y \"\n");
  const Values values = parse_all({"--config", path, "--data", "c"});
  EXPECT_EQ(values.data, std::vector<std::string>{"c"});
  EXPECT_EQ(values.max_steps, 3);
  EXPECT_EQ(values.columns, " x#y ");
}

TEST(ConfigFiles, AreRefusedWithPathAndLine) {
  const TemporaryDirectory directory;
  const auto refused = [&](const std::string& text, const std::string& expected) {
    const std::string path = directory.write("run.ini", text);
    EXPECT_EQ(refusal({"--config", path}), path + ": " + expected);
  };
  refused("\nmax_step = 3\n", "line 2: unknown option --max_step; did you mean --max_steps?");
  refused("max_steps = few\n", "line 1: --max_steps: expected a whole number, got 'few'");
  refused("max_steps = 1\nmax_steps = 2\n", "line 2: --max_steps: expected once, got more than once");
  refused("max_steps =\n", "line 1: max_steps: expected a value, got none; remove the line to use the default");
  refused("just words\n", "line 1: expected name = value or [section], got just words");
  refused("columns = \"a\n", "line 1: expected a quote that closes the value");
  refused("\n[sft]\ndata = x\n",
          "line 2: expected options of this command only, got the section [sft]; plumb pipeline takes files with "
          "sections");
  EXPECT_NE(refusal({"--config", directory / "none.ini"}).find("none.ini: cannot be read"), std::string::npos);
}

TEST(ConfigFiles, KeepANumberSignWithinAValue) {
  const std::vector<IniSection> sections = parse_ini("output_dir = run#1\ndata = a #b\n; c\n# d\n", "x.ini");
  ASSERT_EQ(sections.size(), 1u);
  EXPECT_EQ(sections[0].settings, (Settings{{"output_dir", "run#1"}, {"data", "a"}}));
}

TEST(Durations, AreSecondsMinutesOrHours) {
  EXPECT_EQ(parse_duration("5400", "max_time"), 5400);
  EXPECT_EQ(parse_duration("90:00", "max_time"), 5400);
  EXPECT_EQ(parse_duration("1:30:00", "max_time"), 5400);
  for (const char* text : {"", "x", "1:", ":1", "1:60", "1:2:3:4", "-1", "1.5"})
    EXPECT_NE(message_of<UsageError>([&] { parse_duration(text, "max_time"); }).find("--max_time"), std::string::npos);
}

}  // namespace
}  // namespace plumb
