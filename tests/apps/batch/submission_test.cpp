// The jobs that plumb submit makes of an INI file, and what it refuses.
#include "apps/batch/submission.hpp"

#include <gtest/gtest.h>

#include "apps/options/ini.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

constexpr const char* kPipeline =
    "model = base\noutput_dir = runs/a b\nbeta = 0.2\nseed = 7\n"
    "[sft]\ndata = rows.csv\nlearning_rate = 1e-3\n[reward]\ndata = pairs.jsonl\n[dpo]\ndata = pairs.jsonl\n";

RunFile pipeline() { return {parse_pipeline_file(kPipeline, "jobs/align.ini"), std::nullopt}; }

RunFile sft() {
  return {{"sft.ini", parse_ini("model = base\ndata = rows.csv\noutput_dir = out\n", "sft.ini")[0].settings, {}},
          Stage::kSft};
}

JobOptions options(std::vector<std::string> array = {}) {
  JobOptions o;
  o.array = std::move(array);
  o.script = "slurm/train.sbatch";
  return o;
}

std::string commands(const RunFile& run, const JobOptions& o, double save_seconds = 0) {
  return render_commands(plan_submission(run, o, save_seconds, 0));
}

TEST(Submission, IsOneJobOfTheFileItself) {
  JobOptions o = options();
  o.nodes = "3-4";
  o.time = "12:00:00";
  o.mail_type = {"END", "FAIL"};
  o.mail_user = "a@b.c";
  o.cpus_per_task = 4;
  o.partition = "big";
  EXPECT_EQ(commands(pipeline(), o),
            "job1=$(sbatch --parsable --job-name=align --nodes=3-4 --time=12:00:00 --output=align-%j.log "
            "--cpus-per-task=4 --partition=big --mail-type=END,FAIL --mail-user=a@b.c slurm/train.sbatch pipeline "
            "jobs/align.ini)\n");
  EXPECT_TRUE(plan_submission(pipeline(), o, 0, 0).files.empty());
  EXPECT_NE(commands(sft(), options()).find(" slurm/train.sbatch sft --config sft.ini)"), std::string::npos);
}

TEST(Submission, HasAJobPerStageThatWaitsForTheOneBefore) {
  JobOptions o = options();
  o.per_stage = true;
  const Submission submission = plan_submission(pipeline(), o, 0, 0);
  ASSERT_EQ(submission.jobs.size(), 3u);
  const std::string text = render_commands(submission);
  expect_contains(text, {"job1=$(sbatch --parsable --job-name=align-sft ",
                         "job3=$(sbatch --dependency=afterok:$job2 --kill-on-invalid-dep=yes --parsable "
                         "--job-name=align-dpo ",
                         "train.sbatch pipeline 'runs/a b/submit/2-reward.ini')"});
  ASSERT_EQ(submission.files.size(), 3u);
  EXPECT_EQ(submission.files[0].path, "runs/a b/submit/1-sft.ini");
  for (size_t i = 0; i < 3; ++i) {
    const PipelineFile file = parse_pipeline_file(submission.files[i].text, submission.files[i].path);
    EXPECT_EQ(file.sections.size(), i + 1);
    EXPECT_EQ(has_setting(file.common, "beta"), i == 2) << "an option of dpo alone";
    EXPECT_EQ(plan_pipeline(file).back().options.output_dir, plan_pipeline(pipeline().file)[i].options.output_dir);
  }
}

TEST(Submission, SweepsEveryCombinationAsAnArray) {
  const Submission submission = plan_submission(pipeline(), options({"seed=1..3", "dpo.beta=0.1,0.3"}), 0, 0);
  ASSERT_EQ(submission.files.size(), 6u);
  ASSERT_EQ(submission.jobs.size(), 1u);
  expect_contains(render_commands(submission),
                  {"--array=1-6 --output=align-%A_%a.log", "pipeline 'runs/a b/submit/%a.ini'"});
  EXPECT_EQ(submission.output_dirs[0], "runs/a b/seed-1_dpo.beta-0.1");
  EXPECT_EQ(submission.output_dirs[5], "runs/a b/seed-3_dpo.beta-0.3");
  const PipelineFile last = parse_pipeline_file(submission.files[5].text, submission.files[5].path);
  EXPECT_EQ(submission.files[5].path, "runs/a b/submit/6.ini");
  const std::vector<PlannedStage> stages = plan_pipeline(last);
  EXPECT_EQ(stages[0].options.output_dir, "runs/a b/seed-3_dpo.beta-0.3/sft");
  EXPECT_EQ(stages[2].options.dpo.beta, 0.3);
  EXPECT_EQ(find_setting(last.common, "seed"), "3");
}

TEST(Submission, OfASweepPerStageWaitsTaskByTask) {
  JobOptions o = options({"seed=1,5"});
  o.per_stage = true;
  const Submission submission = plan_submission(pipeline(), o, 0, 0);
  EXPECT_EQ(submission.files.size(), 6u);
  expect_contains(render_commands(submission), {"--dependency=aftercorr:$job1 ", "submit/%a-2-reward.ini"});
  EXPECT_EQ(submission.files[3].path, "runs/a b/submit/2-2-reward.ini");
}

TEST(Submission, IsToldInTimeForItsCheckpoint) {
  EXPECT_EQ(signal_seconds(0, 5), 0) << "no checkpoint was measured";
  EXPECT_EQ(signal_seconds(3, 1), 180);
  EXPECT_EQ(signal_seconds(100, 7), 380);
  EXPECT_EQ(signal_seconds(1e9, 0), 65535);
  expect_contains(commands(sft(), options(), 100), {" --signal=B:USR1@360 "});
  JobOptions o = options();
  o.time = "5:00";
  EXPECT_NE(commands(sft(), o), "");
  expect_contains(message_of<UsageError>([&] { commands(sft(), o, 100); }),
                  {"--time 5:00", "the 360 s that the job is told before its end"});
}

TEST(Submission, TakesTheTimesOfSbatch) {
  EXPECT_EQ(parse_slurm_time("90"), 5400);
  EXPECT_EQ(parse_slurm_time("90:30"), 5430);
  EXPECT_EQ(parse_slurm_time("1:00:05"), 3605);
  EXPECT_EQ(parse_slurm_time("2-0"), 172800);
  EXPECT_EQ(parse_slurm_time("1-2:30"), 86400 + 9000);
  for (const char* bad : {"", "x", "12h", "1:2:3:4", "-5", "1-", "9999999999"})
    expect_contains(message_of<UsageError>([&] { parse_slurm_time(bad); }), {"--time", bad});
}

TEST(Submission, RefusesBadInputByName) {
  const auto refusal = [](const RunFile& run, const JobOptions& o) {
    return message_of<UsageError>([&] { plan_submission(run, o, 0, 0); });
  };
  for (const char* nodes : {"0", "4-3", "two", "", "1-", "-1", "4;rm"}) {
    JobOptions o = options();
    o.nodes = nodes;
    expect_contains(refusal(sft(), o), {"--nodes", nodes});
  }
  for (const char* array : {"seed", "=1", "seed=", "seed=5..1", "seed=1..x", "seed=1,,2", "seed=1..5000", "sfd.seed=1"})
    expect_contains(refusal(pipeline(), options({array})), {"--array"});
  expect_contains(refusal(pipeline(), options({"seed=1..2", "seed=3,4"})), {"swept twice"});
  expect_contains(refusal(pipeline(), options({"seed=1..40", "max_steps=1..40"})), {"at most 1000 combinations"});
  expect_contains(refusal(pipeline(), options({"seed=1,1"})), {"runs/a b/seed-1", "each value once"});
  expect_contains(refusal(pipeline(), options({"learning_rate=1e-4,1e-5"})), {"sweep sft.learning_rate"});
  expect_contains(refusal(pipeline(), options({"output_dir=a,b"})), {"output_dir"});
  expect_contains(refusal(sft(), options({"dpo.beta=1,2"})), {"no sections"});
  expect_contains(refusal(pipeline(), options({"leaning_rate=1,2"})), {"learning_rate"});
  expect_contains(refusal(pipeline(), options({"max_steps=many,few"})), {"max_steps", "many"});
  JobOptions o = options();
  o.mail_type = {"end"};
  expect_contains(refusal(sft(), o), {"mail_type", "end"});
  o = options();
  o.mail_user = "me";
  expect_contains(refusal(sft(), o), {"--mail_type"});
  o = options();
  o.partition = "--wrap";
  expect_contains(refusal(sft(), o), {"--partition --wrap"});
  o = options();
  o.per_stage = true;
  expect_contains(refusal(sft(), o), {"--per_stage", "sft.ini"});
}

TEST(Submission, QuotesWordsForTheShell) {
  EXPECT_EQ(quote_for_shell("a/b-1_%a.ini"), "a/b-1_%a.ini");
  EXPECT_EQ(quote_for_shell("it's"), "'it'\\''s'");
  EXPECT_EQ(quote_for_shell(""), "''");
}

}  // namespace
}  // namespace plumb
