// Runs side by side, of equal and unequal lengths, unfinished, and pipelines; and curves as text.
#include "io/report/compare.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "io/report/text_plot.hpp"
#include "lib/base/check.hpp"
#include "tests/io/report/markup.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

using nlohmann::json;

struct Stage {
  std::string directory, command = "sft";
  json options = json::object();
  int num_steps = 40, num_done = 40;
  double loss = 1;  // of the last step; the evaluations are lowest at step 20
};

void write(const TemporaryDirectory& root, const Stage& stage) {
  std::filesystem::create_directories(root / stage.directory);
  json options = stage.options;
  options["output_dir"] = stage.directory;
  root.write(stage.directory + "/run.json",
             json{{"plumb", "0.1.0"}, {"command", stage.command}, {"num_steps", stage.num_steps}, {"options", options}}
                 .dump());
  std::string lines;
  for (int step = 10; step <= stage.num_done; step += 10) {
    lines += json{{"step", step}, {"loss", stage.loss * 40 / step}, {"step_seconds", 0.5}, {"tokens_per_second", 100}}
                 .dump() +
             "\n";
    lines += json{{"step", step}, {"eval_loss", stage.loss + std::abs(step - 20)}}.dump() + "\n";
  }
  root.write(stage.directory + "/metrics.jsonl", lines);
}

std::string text_of(const TemporaryDirectory& root, const std::vector<std::string>& names) {
  std::vector<std::string> directories;
  for (const std::string& name : names) directories.push_back(root / name);
  return render_comparison_text(read_runs(directories));
}

TEST(Compare, ShowsResultsAndTheOptionsThatDiffer) {
  const TemporaryDirectory root;
  write(root, {.directory = "a", .options = {{"seed", "1"}, {"learning_rate", "1e-3"}, {"data", "rows.csv"}}});
  write(root,
        {.directory = "b", .options = {{"seed", "2"}, {"learning_rate", "1e-3"}, {"data", "rows.csv"}}, .loss = 0.5});
  const std::string text = text_of(root, {"a", "b"});
  EXPECT_EQ(text.substr(0, text.find('\n')), "Supervised fine-tuning");
  expect_contains(text,
                  {"  run  status  steps  eval_loss  best (step)  time  tokens/s\n",
                   "  a    done    40     21.0000    1.0000 (20)  20 s  100\n",
                   "  b    done    40     20.5000    0.5000 (20)  20 s  100\n", "best eval_loss: b, 0.5000 at step 20",
                   "options that differ\n  run  seed\n  a    1\n  b    2\n"});
  EXPECT_EQ(text.find("learning_rate"), std::string::npos) << text;
  EXPECT_EQ(text.find("unequal"), std::string::npos) << text;
}

TEST(Compare, NamesUnequalStepsAndRunsThatAreNotFinished) {
  const TemporaryDirectory root;
  write(root, {.directory = "x/out"});
  write(root, {.directory = "y/out", .num_done = 20});
  const std::string text = text_of(root, {"x/out", "y/out/"});
  expect_contains(text, {"x/out  done", "20 of 40", "at step 20", "not finished: y/out (running)",
                         "unequal numbers of steps; all runs have step 20", "no option differs"});
}

TEST(Compare, ComparesTheStagesOfPipelinesByName) {
  const TemporaryDirectory root;
  for (const char* name : {"p", "q"}) {
    const std::string base(name);
    write(root, {.directory = base + "/sft", .options = {{"model", "base"}, {"seed", base}}});
    write(root, {.directory = base + "/reward", .command = "reward", .options = {{"model", base + "/sft/model"}}});
    json stages = {{{"name", "sft"}, {"directory", "sft"}, {"status", "done"}, {"seconds", 3.0}}};
    stages.push_back({{"name", "reward"}, {"directory", "reward"}, {"status", base == "p" ? "done" : "failed"}});
    root.write(base + "/pipeline.json", json{{"stages", stages}}.dump());
  }
  write(root, {.directory = "alone"});
  const std::string text = text_of(root, {"p", "q", "alone"});
  expect_contains(text, {"Supervised fine-tuning\n", "\nReward model\n", "alone  no such stage  -",
                         "not finished: q (failed)", "  p      base   p\n"});
  const size_t reward = text.find("Reward model");
  EXPECT_EQ(text.find("/sft/model", reward), std::string::npos)
      << "a path of the run itself is no difference: " << text;
}

TEST(Compare, WritesAPageThatEscapesEverything) {
  const TemporaryDirectory root;
  const std::string hostile = "</script><svg onload=alert(1)>\"'&";
  for (int i = 0; i < 7; ++i)
    write(root, {.directory = "run-" + std::to_string(i),
                 .options = {{"columns", hostile + std::to_string(i)}},
                 .loss = 1.0 + i});
  std::vector<std::string> directories;
  for (int i = 0; i < 7; ++i) directories.push_back(root / ("run-" + std::to_string(i)));
  const std::string page = render_comparison_page(read_runs(directories));
  expect_well_formed(page);
  EXPECT_EQ(page.find("<svg onload"), std::string::npos);
  expect_contains(page, {"<h1>7 runs</h1>", "Eval loss, the five best runs", "run-6", "Options that differ"});
}

TEST(Compare, RefusesWhatIsNoRun) {
  const TemporaryDirectory root;
  write(root, {.directory = "a"});
  std::filesystem::create_directories(root / "empty");
  expect_contains(message_of<InputOutputError>([&] { text_of(root, {"a", "empty"}); }), {"empty", "no run.json"});
  expect_contains(message_of<InputOutputError>([&] { text_of(root, {"none"}); }), {"none"});
  expect_contains(message_of<UsageError>([&] { text_of(root, {"a", "a/"}); }), {"got it twice"});
  root.write("a/metrics.jsonl", "{\"step\": 1}\nno json\n");
  expect_contains(text_of(root, {"a"}), {"warning: ", "metrics.jsonl: 1 line without a step"});
}

TEST(TextPlot, DrawsACurveWithinItsRoom) {
  TextPlot plot{.title = "Loss", .points = {}, .x_end = 40, .num_columns = 31, .num_rows = 4, .has_braille = false};
  for (int i = 0; i <= 20; ++i) plot.points.push_back({static_cast<double>(i), 20.0 - i});
  EXPECT_EQ(render_text_plot(plot),
            "Loss 0\n"
            "       20 ****\n"
            "             ****\n"
            "                 ***\n"
            "        0           *\n");
  plot.has_braille = true;
  EXPECT_NE(render_text_plot(plot).find("\xe2\xa0"), std::string::npos);
  plot.points.push_back({21, NAN});
  EXPECT_EQ(render_text_plot(plot).find("Loss 0\n"), 0u);
  plot.points = {{3, 1e-9}};
  EXPECT_NE(render_text_plot(plot), "");
  plot.points = {{3, NAN}};
  EXPECT_EQ(render_text_plot(plot), "");
  plot.points = {{3, 1}};
  plot.num_columns = 5;
  EXPECT_EQ(render_text_plot(plot), "");
}

}  // namespace
}  // namespace plumb
