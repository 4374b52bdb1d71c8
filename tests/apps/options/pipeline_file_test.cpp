// Pipeline files: how they are parsed, which options each stage gets, and the messages for invalid ones.
#include "apps/options/pipeline_file.hpp"

#include <gtest/gtest.h>

#include <functional>

#include "apps/pipeline/pipeline_state.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

PipelineFile parse(const std::string& text) { return parse_pipeline_file(text, "align.ini"); }
std::vector<PlannedStage> plan(const std::string& text) { return plan_pipeline(parse(text)); }

const std::string kCommon = "model = base\noutput_dir = run\n";
const std::string kThree = kCommon + "[sft]\ndata = rows\n[reward]\ndata = pairs\n[dpo]\ndata = pairs\n";

void expect_refused(const std::function<void()>& body, const std::vector<std::string>& parts) {
  const std::string message = message_of<UsageError>(body);
  for (const std::string& part : parts) expect_contains(message, {part});
}

std::string value_of(const OptionTexts& texts, const std::string& name) {
  for (const auto& [option, value] : texts)
    if (option == name) return value;
  return "not there";
}

TEST(PipelineFile, SectionsAddToOrReplaceCommonOptions) {
  const auto stages = plan(kCommon + "max-steps = 7\nlearning_rate = 0.5\n" +
                           "[sft]\ndata = rows\n[dpo]\ndata = pairs\nmax_steps = 9\nloss-type = ipo\n");
  ASSERT_EQ(stages.size(), 2u);
  EXPECT_EQ(stages[0].options.max_steps, 7);
  EXPECT_EQ(stages[1].options.max_steps, 9);
  EXPECT_EQ(stages[1].options.learning_rate, 0.5);
  EXPECT_EQ(stages[1].options.dpo.loss_type, std::vector{PreferenceLoss::kIpo});
  EXPECT_EQ(stages[0].options.sft.loss_type, TokenLoss::kNll);
  EXPECT_EQ(value_of(stages[1].options.texts, "max_steps"), "9");
}

TEST(PipelineFile, CommonOptionsGoToTheStagesThatHaveThem) {
  const auto stages = plan(kCommon + "beta = 0.7\n[sft]\ndata = rows\n[dpo]\ndata = pairs\n");
  EXPECT_EQ(stages[1].options.dpo.beta, 0.7);
  EXPECT_EQ(value_of(stages[0].options.texts, "beta"), "not there");
}

TEST(PipelineFile, DefaultsAreThoseOfTheStage) {
  const auto stages = plan(kThree);
  ASSERT_EQ(stages.size(), 3u);
  EXPECT_EQ(stages[0].options.learning_rate, 2e-5);
  EXPECT_EQ(stages[1].options.learning_rate, 1e-4);
  EXPECT_EQ(stages[2].options.learning_rate, 1e-6);
}

TEST(PipelineFile, GrpoTakesTheModelsOfTheStagesBeforeIt) {
  const auto stages = plan(kCommon + "[sft]\ndata = rows\n[reward]\ndata = pairs\n[grpo]\ndata = prompts\n");
  ASSERT_EQ(stages.size(), 3u);
  EXPECT_EQ(stages[2].options.model.model, "run/sft/model");
  EXPECT_EQ(stages[2].options.rl.reward_model, std::vector<std::string>{"run/reward/model"});
  EXPECT_EQ(value_of(stages[2].options.texts, "reward_model"), "run/reward/model");
  EXPECT_EQ(stages[2].needs, (std::vector<Stage>{Stage::kSft, Stage::kReward}));
  expect_refused([] { plan(kCommon + "[grpo]\ndata = prompts\n"); }, {"[grpo]", "--reward_model", "--reward_funcs"});
}

TEST(PipelineFile, ListsTakeALineForEachItemAndSectionsReplaceThem) {
  const auto stages = plan(kCommon + "data = a b.jsonl\ndata = c\n[sft]\n[dpo]\ndata = d\n");
  ASSERT_EQ(stages.size(), 2u);
  EXPECT_EQ(stages[0].options.data.data, (std::vector<std::string>{"a b.jsonl", "c"}));
  EXPECT_EQ(stages[1].options.data.data, (std::vector<std::string>{"d"}));
}

TEST(PipelineFile, CommentsBlanksAndQuotes) {
  const PipelineFile file = parse(
      "\xef\xbb\xbf# first\r\n ; too\n\n  model = base # not part of it\r\nseed=3\t# nor this\noutput_dir = a#b\n"
      "chat_template = \" # \\\" \\\\ \\n\"  # after\n [ dpo ] # comment\n");
  EXPECT_EQ(file.common,
            (std::vector<Setting>{
                {"model", "base"}, {"seed", "3"}, {"output_dir", "a#b"}, {"chat_template", " # \" \\ \\n"}}));
  ASSERT_EQ(file.sections.size(), 1u);
  EXPECT_EQ(file.sections[0].stage, Stage::kDpo);
}

TEST(PipelineFile, RunsInItsOwnOrder) {
  const auto stages = plan(kCommon + "[dpo]\ndata = p\n[reward]\ndata = p\n[sft]\ndata = r\n");
  ASSERT_EQ(stages.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(stages[i].options.stage, kStages[i]);
}

TEST(PipelineFile, StagesUseTheModelsOfEarlierOnes) {
  const auto stages = plan(kThree);
  EXPECT_EQ(stages[0].options.model.model, "base");
  EXPECT_TRUE(stages[0].needs.empty());
  EXPECT_EQ(stages[1].options.model.model, "run/sft/model");
  EXPECT_EQ(stages[1].needs, std::vector<Stage>{Stage::kSft});
  EXPECT_EQ(stages[2].options.model.model, "run/sft/model");
  EXPECT_EQ(stages[2].options.dpo.reward_model, "run/reward/model");
  EXPECT_EQ(stages[2].needs, (std::vector<Stage>{Stage::kSft, Stage::kReward}));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(stages[i].options.output_dir, "run/" + std::string(name_of(kStages[i])));
  EXPECT_EQ(value_of(stages[2].options.texts, "reward_model"), "run/reward/model");
  EXPECT_EQ(value_of(stages[2].options.texts, "output_dir"), "run/dpo");
}

TEST(PipelineFile, ModelsOfASectionOverride) {
  const auto stages =
      plan(kCommon + "[sft]\ndata = r\n[reward]\ndata = p\nmodel = other\n[dpo]\ndata = p\nreward_model = judge\n");
  EXPECT_EQ(stages[1].options.model.model, "other");
  EXPECT_TRUE(stages[1].needs.empty());
  EXPECT_EQ(stages[2].options.dpo.reward_model, "judge");
  EXPECT_EQ(stages[2].needs, std::vector<Stage>{Stage::kSft});
}

TEST(PipelineFile, WithoutTheOtherStagesTheCommonModelIsTaken) {
  const auto stages = plan(kCommon + "reward_model = judge\n[dpo]\ndata = pairs\n");
  EXPECT_EQ(stages[0].options.model.model, "base");
  EXPECT_EQ(stages[0].options.dpo.reward_model, "judge");
  EXPECT_TRUE(stages[0].needs.empty());
}

TEST(PipelineFile, RefusesInvalidFilesWithTheLine) {
  const auto refused = [](const std::string& text, std::vector<std::string> parts) {
    parts.emplace_back("align.ini: ");
    expect_refused([&] { plan(text); }, parts);
  };
  refused(kCommon, {"[sft], [reward], [dpo], [grpo], [rloo]"});
  refused("", {"[sft], [reward], [dpo], [grpo], [rloo]"});
  refused(kCommon + "[stf]\n", {"line 3", "[stf]", "did you mean [sft]?"});
  refused(kCommon + "[sft\n", {"line 3", "[sft"});
  refused(kCommon + "[sft]\ndata = r\n[sft]\n", {"line 5", "got twice"});
  refused(kCommon + "just words\n", {"line 3", "name = value", "just words"});
  refused(kCommon + "seed =  # none\n", {"line 3", "seed", "expected a value"});
  refused(kCommon + "columns = \"a=b\n", {"line 3", "quote"});
  refused(kCommon + "columns = \"a=b\" c\n", {"line 3", "got c"});
  refused("model = base\n[sft]\ndata = r\n", {"output_dir above the sections"});
  refused("output_dir = x\n" + kThree, {"output_dir", "twice"});
  refused(kCommon + "lerning_rate = 1\n[sft]\ndata = r\n", {"lerning_rate", "did you mean --learning_rate?"});
  refused(kCommon + "[sft]\ndata = r\nlerning_rate = 1\n", {"[sft]", "did you mean --learning_rate?"});
  refused(kCommon + "[sft]\ndata = r\nbeta = 1\n", {"[sft]", "beta: expected an option of sft, got one of dpo"});
  refused(kCommon + "beta = 1\n[sft]\ndata = r\n", {"beta", "got one of dpo"});
  refused(kCommon + "[sft]\ndata = r\nconfig = x\n", {"[sft]", "config"});
  refused(kCommon + "[sft]\ndata = r\nhelp = x\n", {"[sft]", "help"});
  refused(kCommon + "[sft]\ndata = r\noutput_dir = y\n", {"[sft]", "output_dir", "above the sections"});
  refused(kCommon + "overwrite_output_dir = true\n[sft]\ndata = r\n", {"overwrite_output_dir", "remove run"});
  refused(kCommon + "[sft]\ndata = r\n[reward]\ndata = p\nmax_steps = few\n", {"[reward]", "max_steps", "few"});
  refused(kCommon + "[sft]\ndata = r\n[dpo]\ndata = p\nbeta = -1\n", {"[dpo]", "beta"});
  refused(kCommon + "[sft]\ndata = r\nseed = 1\nseed = 2\n", {"[sft]", "seed", "more than once"});
  refused("output_dir = run\n[dpo]\ndata = p\n", {"[dpo]", "model", "expected a model directory"});
  refused(kCommon + "[dpo]\n", {"[dpo]", "data", "expected a file"});
  refused(kCommon + "[dpo]\ndata = p\npairs = sampled\n", {"[dpo]", "reward_model"});
}

TEST(PipelineFile, RoundTrips) {
  PipelineFile file{"align.ini", {{"output_dir", "run"}}, {}};
  for (const char* value : {"a b  c", " around ", "#first", "a #b", "a#b", "x=y=z", "\"q\"", "in \"side\"",
                            "back\\slash", "\\", "\"", "\\\"", "", "[sft]", "tab\t#", "umlaut \xc3\xbc"})
    if (*value != '\0') file.common.push_back({"columns", value});
  file.sections.push_back({Stage::kSft, {{"data", "one file"}, {"data", "# two"}}});
  file.sections.push_back({Stage::kDpo, {}});
  const PipelineFile back = parse(render_pipeline_file(file));
  EXPECT_EQ(back.common, file.common);
  ASSERT_EQ(back.sections.size(), 2u);
  EXPECT_EQ(back.sections[0].settings, file.sections[0].settings);
  EXPECT_EQ(back.sections[1].stage, Stage::kDpo);
  EXPECT_TRUE(back.sections[1].settings.empty());
  file.common.push_back({"columns", "two\nlines"});
  expect_refused([&] { render_pipeline_file(file); }, {"columns", "one line"});
}

TEST(PipelineState, NamesInputsWhoseChangeMatters) {
  const Inputs before = {{"learning_rate", "1e-06"}, {"logging_steps", "10"},   {"data", "a"},
                         {"ref_model", "old"},       {"contents of data", "1"}, {"contents of ref_model", "2"}};
  Inputs now = before;
  EXPECT_EQ(describe_changes(before, now), "");
  now[1].second = "20";
  now[2].second = "b";  // moved
  EXPECT_EQ(describe_changes(before, now), "");
  now[0].second = "5e-07";
  EXPECT_EQ(describe_changes(before, now), "learning_rate: 1e-06, now 5e-07");
  now[4].second = "3";
  EXPECT_EQ(describe_changes(before, now), "learning_rate: 1e-06, now 5e-07, data: a, now b");
  now = before;
  now[4].second = "3";
  EXPECT_EQ(describe_changes(before, now), "contents of data changed");
  now = before;
  now.pop_back();
  now[3].second = "";
  EXPECT_EQ(describe_changes(before, now), "ref_model: old, now none");
  // options that an earlier plumb did not have
  now = before;
  now.emplace_back("data_weights", "");
  now.emplace_back("stopping_strategy", "first_exhausted");
  EXPECT_EQ(describe_changes(before, now), "");
  now[6].second = "1 2";
  EXPECT_EQ(describe_changes(before, now), "data_weights: none, now 1 2");
}

TEST(PipelineState, AnotherVersionOfPreparedRowsIsLoggedAndNotRefused) {
  const Inputs before = {{"data", "a"}}, now = {{"data", "a"}, {"version of prepared rows", "2"}};
  EXPECT_EQ(describe_changes(before, now), "");
  EXPECT_EQ(describe_allowed_changes(before, now), "version of prepared rows: none, now 2");
  EXPECT_EQ(describe_allowed_changes(now, now), "");
}

TEST(RunInputs, ARunMayBecomeLongerNotShorter) {
  const auto inputs = [](const char* max_steps, const char* epochs, int64_t num_steps = 0) {
    Inputs all = {{"max_steps", max_steps}, {"num_train_epochs", epochs}, {"seed", "1"}};
    if (num_steps > 0) add_num_steps(all, num_steps);
    return all;
  };
  using enum LengthChange;
  EXPECT_EQ(compare_length(inputs("-1", "3"), inputs("-1", "3")), kNone);
  EXPECT_EQ(compare_length(inputs("-1", "1"), inputs("-1", "1.5")), kLonger);
  EXPECT_EQ(compare_length(inputs("-1", "2"), inputs("-1", "1")), kOther);
  EXPECT_EQ(compare_length(inputs("10", "3"), inputs("20", "1")), kLonger);  // epochs do not count beside steps
  EXPECT_EQ(compare_length(inputs("10", "3"), inputs("10", "1")), kNone);
  EXPECT_EQ(compare_length(inputs("10", "3"), inputs("9", "3")), kOther);
  EXPECT_EQ(compare_length(inputs("-1", "3", 30), inputs("40", "3")), kLonger);
  EXPECT_EQ(compare_length(inputs("-1", "3", 30), inputs("30", "3")), kNone);
  EXPECT_EQ(compare_length(inputs("-1", "3"), inputs("40", "3")), kOther);  // not known how many steps 3 epochs had
  EXPECT_EQ(compare_length(inputs("10", "3"), inputs("-1", "9")), kOther);
  EXPECT_EQ(describe_changes(inputs("10", "3", 10), inputs("20", "3")), "");
  EXPECT_EQ(describe_changes(inputs("20", "3", 20), inputs("10", "3")), "max_steps: 20, now 10");
  EXPECT_EQ(describe_allowed_changes(inputs("10", "3", 10), inputs("20", "3")), "max_steps: 10, now 20");
}

TEST(PipelineState, NumberOfRanksMayChangeIfStepsKeepTheirRows) {
  const auto inputs = [](const char* accumulation, const char* micro_batches) {
    return Inputs{{"gradient_accumulation_steps", accumulation}, {"micro_batches_per_step", micro_batches}};
  };
  EXPECT_EQ(describe_changes(inputs("2", "2"), inputs("1", "2")), "");
  EXPECT_EQ(describe_changes(inputs("2", "2"), inputs("2", "6")), "");
  EXPECT_EQ(describe_changes(inputs("2", "2"), inputs("3", "9")), "gradient_accumulation_steps: 2, now 3");
}

TEST(RunInputs, AccumulationKeepsTheRowsOfAStepOnOtherRanks) {
  TrainOptions options;
  options.gradient_accumulation_steps = 3;
  options.texts = {{"gradient_accumulation_steps", "3"}};
  const Inputs on_8_ranks = describe_step(options, 8);
  EXPECT_EQ(accumulation_for_resume(on_8_ranks, options, 8), 3);
  EXPECT_EQ(accumulation_for_resume(on_8_ranks, options, 6), 4);
  EXPECT_EQ(accumulation_for_resume(on_8_ranks, options, 1), 24);
  EXPECT_EQ(accumulation_for_resume({}, options, 6), 3);  // no earlier run
  EXPECT_EQ(accumulation_for_resume(on_8_ranks, options, 5), 3);
  EXPECT_NO_THROW(check_ranks_share_steps(on_8_ranks, options, 6));
  EXPECT_NO_THROW(check_ranks_share_steps({}, options, 5));
  try {
    check_ranks_share_steps(on_8_ranks, options, 5);
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find(": 1, 2, 3, 4, 6, 8, 12, 24"), std::string::npos) << error.what();
  }
  options.gradient_accumulation_steps = 6;
  options.texts = {{"gradient_accumulation_steps", "6"}};  // an explicit option is not changed
  EXPECT_EQ(accumulation_for_resume(on_8_ranks, options, 5), 6);
  EXPECT_NO_THROW(check_ranks_share_steps(on_8_ranks, options, 5));
}

}  // namespace
}  // namespace plumb
