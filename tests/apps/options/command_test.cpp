// Output generated from the declarations: --help, the bash completion, the man page.
#include "apps/options/command.hpp"

#include <gtest/gtest.h>

#include <regex>

#include "apps/commands/commands.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/run_program.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

TEST(Help, OfSftIsGroupedWithExampleRangesChoicesAndDefaults) {
  const std::string help = render_help(sft_command());
  expect_contains(help, {"usage: plumb sft --model DIR", "example:\n  mpirun -n 4 plumb sft "});
  size_t last = 0;
  for (const char* group : {"\nModel:\n", "\nData:\n", "\nOutput:\n", "\nSchedule:\n", "\nOptimizer:\n",
                            "\nMemory and speed:\n", "\nEvaluation and logging:\n", "\nCheckpoints:\n",
                            "\nRobustness:\n", "\nLoRA:\n", "\nObjective:\n", "\nGeneral:\n"}) {
    const size_t at = help.find(group);
    ASSERT_NE(at, std::string::npos) << group;
    EXPECT_GT(at, last) << group;
    last = at;
  }
  const std::string words = std::regex_replace(help, std::regex("\\s+"), " ");
  expect_contains(words, {"--learning_rate NUMBER", "default 2e-05", "one of float32, bfloat16", "1 to 1000000"});
  EXPECT_EQ(help.find("--beta "), std::string::npos) << "an option of dpo";
  for (size_t begin = 0, end; begin < help.size(); begin = end + 1) {
    end = std::min(help.find('\n', begin), help.size());
    EXPECT_LE(end - begin, 100u) << help.substr(begin, end - begin);
  }
}

/// The message with which the command refuses these arguments, before anything else happens. Options that it needs are
/// added.
std::string refusal(const Command& command, const std::vector<std::string>& arguments) {
  std::vector<std::string> all;
  for (const std::string& name : command.text.required)
    all.insert(all.end(), {"--" + name, name == "num_ranks" ? "2" : "out"});
  all.insert(all.end(), arguments.begin(), arguments.end());
  return message_of<UsageError>([&] { run_command(command, all); });
}

TEST(Commands, RefuseAChoiceThatAnOptionDoesNotHave) {
  int num_refused = 0;
  for (const Command& command : all_commands())
    for (const Option& option : command.options) {
      if (option.choices.empty() || !option.stages.has(Stage::kSft)) continue;  // plan: of sft by default
      ++num_refused;
      EXPECT_NE(refusal(command, {"--" + option.name, "nonsense"}).find("nonsense: expected one of "),
                std::string::npos)
          << command.text.name << " --" << option.name;
    }
  EXPECT_GE(num_refused, 30);
}

TEST(Commands, RefuseValuesOfTheWrongTypeOrOutOfRange) {
  struct BadValue {
    const char* option;
    const char* value;
    const char* expected;
  };
  constexpr BadValue kBadValues[] = {
      {"max_steps", "many", "a whole number"},
      {"max_steps", "1.5", "a whole number"},
      {"learning_rate", "high", "a number"},
      {"per_device_train_batch_size", "0", "1 to 1000000"},
      {"gradient_accumulation_steps", "0", "1 to 1000000"},
      {"max_length", "-1", "0 to 1000000000"},
      {"learning_rate", "nan", "0 or more"},
      {"warmup_steps", "1.5", "a whole number of steps, or a fraction below 1"},
      {"warmup_steps", "1e+30", "0 to 1000000000"},
      {"adam_beta2", "nan", "0 to below 1"},
      {"adam_epsilon", "0", "more than 0"},
      {"threads", "-1", "0 to 1024"},
      {"threads", "5000", "0 to 1024"},
      {"packing", "perhaps", "true or false"},
  };
  for (const BadValue& bad : kBadValues)
    expect_contains(refusal(sft_command(), {std::string("--") + bad.option, bad.value}),
                    {bad.option, bad.expected, bad.value});
  expect_contains(refusal(sft_command(), {"--max_steps", "0", "--num_train_epochs", "0"}),
                  {"--num_train_epochs", "more than 0"});
  expect_contains(refusal(sft_command(), {"--lr_scheduler_type", "coseno"}), {"did you mean cosine?"});
}

TEST(Commands, EveryItemOfTheDataHasAWeightOrNone) {
  expect_contains(refusal(sft_command(), {"--data_weights", "0.7,0.3"}), {"each of the 1 items of --data, got 2"});
  expect_contains(refusal(sft_command(), {"--data_weights", "0"}), {"more than 0"});
  expect_contains(refusal(sft_command(), {"--data_weights", "1", "--shuffle", "false"}), {"--shuffle false"});
  expect_contains(refusal(dpo_command(), {"--data_weights", "2", "--pairs", "sampled", "--reward_model", "reward"}),
                  {"--pairs sampled"});
  expect_contains(refusal(sft_command(), {"--stopping_strategy", "first_exausted"}), {"did you mean first_exhausted?"});
}

TEST(Commands, EvaluateKeepsCompletionsAndRowsApart) {
  const Command evaluate = evaluate_command();
  expect_contains(refusal(evaluate, {"--num_generations", "4"}), {"--num_generations", "--reward_funcs"});
  expect_contains(refusal(evaluate, {"--reward_funcs", "think", "--beta", "0.2"}), {"--beta"});
  expect_contains(refusal(evaluate, {"--reward_funcs", "think", "--temperature", "0"}), {"--temperature 0", "make 1"});
  expect_contains(refusal(evaluate, {"--reward_funcs", "regex"}), {"--reward_pattern"});
  expect_contains(refusal(evaluate, {"--reward_funcs", "think", "--reward_weights", "1,2"}), {"--reward_weights", "2"});
  expect_contains(refusal(evaluate, {"--reward_funcs", "numbre"}), {"did you mean number?"});
}

/// The words that bash offers for the last of `words`.
std::string completions(const std::string& script, const std::string& words) {
  const test::RunResult result = test::run_program(
      {"bash", "-c",
       "source " + script + "; COMP_WORDS=(" + words +
           "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); compopt() { :; }; _plumb; echo \"${COMPREPLY[*]}\""});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  return result.out;
}

TEST(Completion, OffersCommandsOptionsChoicesAndDirectories) {
  const TemporaryDirectory directory;
  const std::string script = directory.write("plumb.bash", render_bash_completion(all_commands()));
  EXPECT_EQ(completions(script, "plumb sf"), "sft\n");
  EXPECT_EQ(completions(script, "plumb sft --learn"), "--learning_rate\n");
  EXPECT_EQ(completions(script, "plumb sft --dtype b"), "bfloat16\n");
  EXPECT_EQ(completions(script, "plumb sft --packing ''"), "true false\n");
  EXPECT_EQ(completions(script, "plumb auto --loss_type sig"), "sigmoid sigmoid_norm\n");
  EXPECT_EQ(completions(script, "plumb sft --beta"), "\n") << "an option of dpo";
  directory.write("file", "");
  EXPECT_EQ(completions(script, "plumb sft --model " + directory.path().substr(0, directory.path().size() - 1)),
            directory.path() + "\n");
  EXPECT_EQ(completions(script, "plumb man"), "\n") << "hidden";
}

TEST(ManPage, NamesEveryCommandAndOption) {
  const std::string page = render_man_page(all_commands());
  EXPECT_EQ(page.find(".TH PLUMB 1"), 0u);
  for (const Command& command : all_commands()) {
    if (command.text.is_hidden) continue;
    expect_contains(page, {".SS plumb " + command.text.name + "\n"});
    for (const Option& option : command.options) expect_contains(page, {".B \\-\\-" + option.name + " "});
  }
}

}  // namespace
}  // namespace plumb
