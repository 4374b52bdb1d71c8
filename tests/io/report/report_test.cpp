#include "io/report/report.hpp"

#include <gtest/gtest.h>
#include <utime.h>

#include <cmath>
#include <filesystem>

#include "io/dataset/dataset_index.hpp"
#include "io/file/file.hpp"
#include "io/report/live_report.hpp"
#include "io/report/run_summary.hpp"
#include "lib/base/check.hpp"
#include "tests/io/report/markup.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

using nlohmann::json;

constexpr const char* kHostile = "</script></style></title><svg onload=alert(1)>\"'&<img src=x onerror=alert(2)>";

json run_json(const std::string& command, int64_t num_steps) {
  return {{"plumb", "0.1.0"},
          {"command", command},
          {"ranks", 8},
          {"nodes", 1},
          {"threads_per_rank", 2},
          {"instruction_set", "x86-64-v4"},
          {"num_steps", num_steps},
          {"options", {{"model", "/models/stories260K/"}, {"loss_type", "sigmoid"}, {"output_dir", "/runs/a"}}},
          {"plan", {{"num_parameters", 260032}, {"rank_bytes", 100 << 20}, {"total_bytes", 800 << 20}}}};
}

std::string metrics_lines(int64_t num_steps) {
  std::string lines;
  for (int64_t step = 1; step <= num_steps; ++step) {
    const double loss = 3.0 / static_cast<double>(step);
    lines += json{{"step", step},        {"epoch", 0.1},          {"loss", loss},
                  {"grad_norm", 1.5},    {"learning_rate", 1e-4}, {"num_tokens", 100 * step},
                  {"step_seconds", 0.5}, {"memory_bytes", 600e6}, {"tokens_per_second", 200.0}}
                 .dump() +
             "\n";
    if (step % 5 == 0) lines += json{{"step", step}, {"eval_loss", loss}, {"eval_exact_match", 0.625}}.dump() + "\n";
  }
  return lines;
}

void write_stage(const TemporaryDirectory& directory, const std::string& prefix, const std::string& command,
                 int64_t num_steps, int64_t num_done) {
  if (!prefix.empty()) std::filesystem::create_directories(directory / prefix);
  directory.write(prefix + "run.json", run_json(command, num_steps).dump());
  directory.write(prefix + "metrics.jsonl", metrics_lines(num_done));
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Report, ShowsSetupAndResults) {
  const TemporaryDirectory directory;
  write_stage(directory, "", "sft", 40, 40);
  const std::string page = render_report(read_run(directory.path()));
  const Markup markup = expect_well_formed(page);
  for (const char* part : {"Supervised fine-tuning", "done", "stories260K", "260 k parameters", "8 ranks", "1 node",
                           "2 threads each", "62.5 %", "20 s", "572 MiB", "800 MiB", "72 %"})
    EXPECT_TRUE(contains(markup.text, part)) << part;
  EXPECT_FALSE(contains(markup.text, "Warnings"));
  EXPECT_GE(markup.count("svg"), 6u);
}

TEST(Report, NeedsNoNetwork) {
  const TemporaryDirectory directory;
  write_stage(directory, "", "sft", 40, 40);
  const std::string page = render_report(read_run(directory.path()));
  for (const char* part : {"http:", "https:", "src=", "url(", "@import", "<link"})
    EXPECT_FALSE(contains(page, part)) << part;
}

TEST(Report, EmptyDirectoryIsARunThatHasNotStarted) {
  const TemporaryDirectory directory;
  const std::string page = render_report(read_run(directory.path()));
  EXPECT_TRUE(contains(expect_well_formed(page).text, "Nothing has been written"));
  EXPECT_EQ(read_run(directory.path()).status(), "unfinished");
}

TEST(Report, IncompleteLastLineIsIgnored) {
  const TemporaryDirectory directory;
  write_stage(directory, "", "sft", 40, 12);
  directory.write("metrics.jsonl", metrics_lines(12) + R"({"step": 13, "loss": 0.)");
  const RunSummary run = read_run(directory.path());
  EXPECT_EQ(run.stages[0].last_step(), 12);
  EXPECT_TRUE(run.problems.empty());
  EXPECT_EQ(run.status(), "running");
  EXPECT_TRUE(contains(expect_well_formed(render_report(run)).text, "step 12 of 40, about 14 s left"));
}

TEST(Report, DamagedLinesAreCounted) {
  const TemporaryDirectory directory;
  write_stage(directory, "", "sft", 40, 12);
  directory.write("metrics.jsonl", metrics_lines(3) + "\x01\xff garbage\n[1]\n{\"loss\": 2}\n" + metrics_lines(12));
  const RunSummary run = read_run(directory.path());
  ASSERT_EQ(run.problems.size(), 1u);
  EXPECT_TRUE(contains(run.problems[0], "3 lines without a step left out, the first is line 4")) << run.problems[0];
  EXPECT_EQ(run.stages[0].metric("loss").size(), 12u);
}

TEST(Report, RepeatedStepsCountOnce) {
  const TemporaryDirectory directory;
  write_stage(directory, "", "sft", 20, 20);
  const RunSummary whole = read_run(directory.path());
  // killed at step 13, resumed from a checkpoint at step 0
  directory.write("metrics.jsonl", metrics_lines(13) + metrics_lines(20));
  const RunSummary again = read_run(directory.path());
  for (const char* key : {"loss", "eval_loss"}) {
    ASSERT_EQ(again.stages[0].metric(key).size(), whole.stages[0].metric(key).size()) << key;
    EXPECT_EQ(again.stages[0].last(key), whole.stages[0].last(key));
  }
  EXPECT_EQ(again.stages[0].seconds, whole.stages[0].seconds);
}

TEST(Report, NonFiniteLossIsAWarning) {
  const TemporaryDirectory directory;
  write_stage(directory, "", "dpo", 20, 5);
  directory.write("metrics.jsonl", metrics_lines(5) + "{\"step\":6,\"loss\":null,\"grad_norm\":1.0}\n");
  const Markup markup = expect_well_formed(render_report(read_run(directory.path())));
  EXPECT_TRUE(contains(markup.text, "loss is not finite at step 6"));
  EXPECT_FALSE(contains(markup.text, "nan"));
}

TEST(Report, StoppedRunIsUnfinished) {
  const TemporaryDirectory directory;
  write_stage(directory, "", "sft", 40, 12);
  const utimbuf long_ago{1'700'000'000, 1'700'000'000};
  ASSERT_EQ(::utime((directory / "metrics.jsonl").c_str(), &long_ago), 0);
  EXPECT_EQ(read_run(directory.path()).status(), "unfinished");
}

TEST(Report, StoppedStageIsUnfinished) {
  const TemporaryDirectory directory;
  directory.write("pipeline.json", R"({"stages":[{"name":"sft","directory":"sft","status":"running"}]})");
  std::filesystem::create_directory(directory / "sft");
  directory.write("sft/run.json", R"({"command":"sft","num_steps":100})");
  EXPECT_EQ(read_run(directory.path()).stages[0].status, "running");
  const auto hour_ago = std::filesystem::file_time_type::clock::now() - std::chrono::hours(1);
  std::filesystem::last_write_time(directory / "pipeline.json", hour_ago);
  EXPECT_EQ(read_run(directory.path()).stages[0].status, "running");  // its run.json is new
  std::filesystem::last_write_time(directory / "sft/run.json", hour_ago);
  EXPECT_EQ(read_run(directory.path()).stages[0].status, "unfinished");
  EXPECT_EQ(read_run(directory.path()).status(), "unfinished");
}

TEST(Report, DroppedRowsAreListedForEveryReason) {
  const TemporaryDirectory directory;
  write_stage(directory, "", "reward", 10, 10);
  DatasetIndex index;
  index.kind = "sft";
  index.key = "00ff";
  index.shards = {{"a.h5", 2, 9, 100, std::string(64, '0')}};
  index.statistics.num_rows_read = 1234;
  index.statistics.num_rows_kept = 2;
  index.statistics.num_tokens = 9;
  index.statistics.dropped_empty.add("x.csv:12");
  index.statistics.dropped_empty.add("x.csv:15");
  index.statistics.length_histogram[2] = 77;
  json object = json::parse(index.to_text());
  object["statistics"]["dropped"]["identical_pair"] = {{"rows", 3}, {"first", {"y.csv:4", "y.csv:5"}}};
  std::filesystem::create_directories(directory / "data/00ff");
  directory.write("data/00ff/index.json", object.dump());
  const Markup markup = expect_well_formed(render_report(read_run(directory.path())));
  for (const char* part : {"2 of 1,234 rows kept", "Dropped: empty", "x.csv:12, 15", "Dropped: identical pair",
                           "y.csv:4, 5, \u2026", "Lengths", "77"})
    EXPECT_TRUE(contains(markup.text, part)) << part;
  EXPECT_FALSE(contains(markup.text, "nothing to learn"));  // none was
}

TEST(Report, RowsWithoutEosAreAWarning) {
  const TemporaryDirectory directory;
  write_stage(directory, "", "sft", 10, 10);
  std::filesystem::create_directories(directory / "data/k");
  for (const double share : {0.4, 0.99}) {
    directory.write("data/k/index.json",
                    json{{"statistics", {{"rows_kept", 10}, {"share_ending_in_trained_eos", share}}}}.dump());
    const std::string page = render_report(read_run(directory.path()));
    EXPECT_EQ(contains(page, "only 40.0 % end in a trained end-of-sequence token"), share < 0.9);
  }
}

TEST(Report, PipelineShowsEveryStage) {
  const TemporaryDirectory directory;
  write_stage(directory, "sft/", "sft", 20, 20);
  write_stage(directory, "reward/", "reward", 20, 7);
  const json pipeline = {
      {"stages",
       {{{"name", "sft"}, {"directory", "sft"}, {"status", "done"}, {"seconds", 3725}},
        {{"name", "reward"}, {"directory", "reward"}, {"status", "running"}},
        {{"name", "dpo"}, {"directory", "dpo"}, {"status", "pending"}}}},
      {"notes",
       {{"warnings", {"seven pairs dropped"}},
        {"facts", {{{"name", "win_rate"}, {"value", 0.694}}, {{"name", "pairs"}, {"value", 1200}}}},
        {"tables", {{{"title", "By length"}, {"columns", {"Tokens", "Pairs"}}, {"rows", {{"32-63", 41}, {"64-127"}}}}}},
        {"samples", {{{"prompt", "Who?"}, {"before", "I."}, {"after", ""}, {"chosen_by", "reward model"}}}}}}};
  directory.write("pipeline.json", pipeline.dump());
  const RunSummary run = read_run(directory.path());
  EXPECT_EQ(run.status(), "running");
  const Markup markup = expect_well_formed(render_report(run));
  for (const char* part :
       {"Pipeline", "Reward model", "step 7 of 20", "not started", "Win rate", "69.4 %", "1,200", "By length", "64-127",
        "Who?", "Chosen by", "seven pairs dropped", "1 warning", "1 h 02 min"})
    EXPECT_TRUE(contains(markup.text, part)) << part;
  EXPECT_TRUE(markup.attributes.contains("id"));
}

TEST(Report, FailedStageAndFailedCheckAreShown) {
  const TemporaryDirectory directory;
  write_stage(directory, "sft/", "sft", 20, 3);
  directory.write("sft/checks.json",
                  R"({"checks":[{"name":"packed = unpacked","passed":false,"detail":"off by 3e-3"}]})");
  directory.write("pipeline.json", R"({"stages":[{"name":"sft","directory":"sft","status":"failed"}]})");
  const RunSummary run = read_run(directory.path());
  EXPECT_EQ(run.status(), "failed");
  const Markup markup = expect_well_formed(render_report(run));
  for (const char* part : {"0 of 1 checks passed", "check failed: packed = unpacked", "off by 3e-3"})
    EXPECT_TRUE(contains(markup.text, part)) << part;
}

/// A run whose external texts are all hostile.
TEST(Report, TextsAreEscaped) {
  const TemporaryDirectory directory;
  json run = run_json(kHostile, 5);
  run["plumb"] = run["instruction_set"] = kHostile;
  run["options"] = {{"model", kHostile}, {"data", kHostile}, {"dtype", kHostile}, {kHostile, kHostile}};
  std::filesystem::create_directories(directory / "sft/data/k");
  directory.write("sft/run.json", run.dump());
  directory.write("sft/metrics.jsonl", json{{"step", 1}, {"loss", 1}, {kHostile, 2}}.dump() + "\n");
  directory.write("sft/checks.json",
                  json{{"checks", {{{"name", kHostile}, {"passed", true}, {"detail", kHostile}}}}}.dump());
  const json notes = {
      {"warnings", {kHostile, 5, nullptr, {kHostile}}},
      {"facts", {{{"name", kHostile}, {"value", kHostile}}, {{"name", "win rate"}, {"value", kHostile}}, 7}},
      {"tables", {{{"title", kHostile}, {"columns", {kHostile}}, {"rows", {{kHostile, {{"a", 1}}}, 3}}}}},
      {"samples", {{{"prompt", kHostile}, {kHostile, kHostile}}, "text", {{"prompt", {1, {2}}}}}}};
  directory.write("sft/notes.json", notes.dump());
  directory.write("sft/data/k/index.json", json{{"statistics",
                                                 {{"rows_kept", 1e300},
                                                  {"dropped", {{kHostile, {{"rows", 3}, {"first", {kHostile, 8}}}}}},
                                                  {std::string(kHostile) + "histogram", {1, kHostile, -4}},
                                                  {kHostile, 3}}}}
                                               .dump());
  directory.write("pipeline.json", json{{"stages",
                                         {{{"name", kHostile}, {"directory", "sft"}, {"status", kHostile}},
                                          {{"name", "x"}, {"directory", "../.."}},
                                          {{"name", "y"}, {"directory", 7}},
                                          "z"}},
                                        {"notes", notes}}
                                       .dump());
  const RunSummary summary = read_run(directory.path());
  EXPECT_EQ(summary.stages[0].metrics.count(kHostile), 1u);
  const Markup markup = expect_well_formed(render_report(summary));
  EXPECT_EQ(markup.count("img"), 0u);
  EXPECT_TRUE(contains(markup.text, "&lt;svg onload=alert(1)&gt;"));
}

TEST(Report, UnexpectedFilesAreProblemsNotErrors) {
  for (const char* content :
       {"", "[", "[]", "7", "null", "\"x\"", "{}", "\xff\xfe", "{\"stages\":{\"a\":1},\"plan\":[1],\"options\":3}"}) {
    const TemporaryDirectory directory;
    std::filesystem::create_directories(directory / "data/k");
    for (const char* name : {"run.json", "metrics.jsonl", "checks.json", "notes.json", "data/k/index.json"})
      directory.write(name, content);
    expect_well_formed(render_report(read_run(directory.path())));
    directory.write("pipeline.json", content);
    expect_well_formed(render_report(read_run(directory.path())));
  }
}

TEST(Report, ItsSizeDoesNotGrowWithTheRun) {
  const TemporaryDirectory directory;
  write_stage(directory, "", "sft", 20'000, 20'000);
  json notes;
  for (int i = 0; i < 1000; ++i) {
    notes["samples"].push_back({{"prompt", std::string(100'000, 'x')}, {"after", "y"}});
    notes["tables"] = {{{"title", "t"}, {"columns", {"a"}}, {"rows", std::vector<json>(1000, json::array({1}))}}};
  }
  directory.write("notes.json", notes.dump());
  EXPECT_LT(render_report(read_run(directory.path())).size(), 1u << 20);
}

TEST(Report, FollowsARunThatGoesOn) {
  const TemporaryDirectory directory;
  write_stage(directory, "1_sft/", "sft", 20, 5);
  const std::string refresh = "http-equiv=\"refresh\"";
  LiveReport later(directory / "1_sft");
  later.refresh();
  EXPECT_FALSE(std::filesystem::exists(directory / "1_sft/report.html")) << "it is not due yet";
  LiveReport stage(directory / "1_sft", {});
  stage.refresh();
  EXPECT_TRUE(contains(directory.read("1_sft/report.html"), refresh));
  write_stage(directory, "1_sft/", "sft", 20, 20);
  write_report(directory / "1_sft");
  EXPECT_FALSE(contains(directory.read("1_sft/report.html"), refresh)) << "it is done";

  directory.write("pipeline.json", R"({"stages": [{"name": "sft", "directory": "1_sft", "status": "running"}]})");
  LiveReport(directory / "1_sft", {}).refresh();
  EXPECT_TRUE(contains(directory.read("report.html"), refresh));
  EXPECT_NO_THROW(LiveReport(directory / "gone", {}).refresh());
}

TEST(Report, IsReplacedAtomically) {
  const TemporaryDirectory directory;
  write_stage(directory, "", "sft", 5, 5);
  EXPECT_EQ(write_report(directory.path()), directory / "report.html");
  EXPECT_EQ(write_report(directory.path()), directory / "report.html");
  expect_well_formed(directory.read("report.html"));
  EXPECT_EQ(directory.num_entries(), 3u);
  EXPECT_NE(message_of<InputOutputError>([&] { write_report(directory / "none"); }).find("expected the directory"),
            std::string::npos);
}

}  // namespace
}  // namespace plumb
