// Checkpoints under faults other than kills (those are in survives_any_kill_test.cpp): failed saves, damaged files,
// changed options, and the same command after the run is complete. tests/faults has all faults, on 8 ranks.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/resume_test.hpp"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

class CheckpointFaults : public ResumeTest {
 protected:
  /// Killed after step 5, with checkpoints of steps 2 and 4.
  void interrupt() const {
    expect_died(start("sft", 2, {}, "step:5:1:kill"));
    ASSERT_EQ(checkpoints(), (std::vector<std::string>{"step-000002", "step-000004"}));
  }
  void flip_byte(const std::string& name, size_t at) const {
    std::string bytes = directory_.read(name);
    bytes.at(at) = static_cast<char>(bytes.at(at) ^ 4);
    directory_.write(name, bytes);
  }
};

TEST_F(CheckpointFaults, AsynchronousSavesAreTheSame) {
  const Options options = {{"async_save", "true"}};
  for (const std::string fault : {"", "step:5:1:kill", "checkpoint-written:4:1:kill", "checkpoint-written:4:1:error"}) {
    SCOPED_TRACE(fault);
    fs::remove_all(directory_ / "out");
    const RunResult first = start("sft", 2, options, fault);
    if (fault.ends_with(":kill")) {
      expect_died(first);
      EXPECT_EQ(start("sft", 1, options).exit_code, 0);
    } else {
      expect_completed(first, 0);
    }
    EXPECT_EQ(outcome(), undisturbed("sft"));
    EXPECT_EQ(lines_with(first.err, "failed (failure 1)").size(), fault.ends_with(":error") ? 1u : 0u);
    EXPECT_EQ(checkpoints().back(), "step-000006");
    EXPECT_EQ(unfinished_files(), std::vector<std::string>());
  }
}

TEST_F(CheckpointFaults, AFailedSaveIsLoggedAndTrainingContinues) {
  for (const std::string point : {"checkpoint-begun:4:0", "checkpoint-committed:4:0"}) {
    SCOPED_TRACE(point);
    fs::remove_all(directory_ / "out");
    const RunResult result = start("sft", 2, {}, point + ":error");
    expect_completed(result, 0);
    EXPECT_EQ(lines_with(result.err, "saving the checkpoint of step 4 failed (failure 1); training continues").size(),
              1u)
        << result.err;
    EXPECT_EQ(checkpoints(), (std::vector<std::string>{"step-000002", "step-000006"}));
    EXPECT_EQ(outcome(), undisturbed("sft"));
  }
}

TEST_F(CheckpointFaults, ADamagedCheckpointIsSkipped) {
  interrupt();
  fs::copy(directory_ / "out", directory_ / "kept", fs::copy_options::recursive);
  const std::string newest = "out/checkpoints/step-000004/";
  const auto damage = [&](int kind) {
    if (kind == 0) fs::resize_file(directory_ / (newest + "rank-00000-of-00002.bin"), 1000);
    if (kind == 1) fs::remove(directory_ / (newest + "COMMIT"));
    if (kind == 2) flip_byte(newest + "manifest.json", 40);
  };
  for (int kind = 0; kind < 3; ++kind) {
    SCOPED_TRACE(kind);
    fs::remove_all(directory_ / "out");
    fs::copy(directory_ / "kept", directory_ / "out", fs::copy_options::recursive);
    damage(kind);
    const RunResult result = start("sft", kind == 0 ? 3 : 1);
    expect_completed(result, 2);
    EXPECT_EQ(lines_with(result.err, "skipping checkpoint out/checkpoints/step-000004: ").size(), 1u) << result.err;
    EXPECT_EQ(outcome(), undisturbed("sft"));
    EXPECT_EQ(checkpoints(), (std::vector<std::string>{"step-000004", "step-000006"}));
  }
}

TEST_F(CheckpointFaults, WithoutAValidCheckpointItIsRefused) {
  interrupt();
  flip_byte("out/checkpoints/step-000002/rank-00000-of-00002.bin", 77);
  flip_byte("out/checkpoints/step-000004/COMMIT", 7);
  expect_refused(start("sft", 2), 65, {"out/checkpoints", "--overwrite_output_dir true"});
  const RunResult overwriting = start("sft", 2, {{"overwrite_output_dir", "true"}});
  expect_completed(overwriting, 0);
  EXPECT_EQ(checkpoints(), (std::vector<std::string>{"step-000004", "step-000006"}));
}

TEST_F(CheckpointFaults, OtherOptionsOrDataAreRefusedAndNamed) {
  interrupt();
  expect_refused(start("sft", 2, {{"learning_rate", "0.002"}}), 2,
                 {"out: holds a run already", "learning_rate: 0.001, now 0.002"});
  expect_refused(start("sft", 2, {{"gradient_accumulation_steps", "6"}}), 2,
                 {"gradient_accumulation_steps: 12, now 6"});
  directory_.write("rows.jsonl", rows(47));
  expect_refused(start("sft", 2), 2, {"contents of data changed"});
  directory_.write("rows.jsonl", rows(48));
  const RunResult result = start("sft", 2, {{"save_steps", "3"}, {"save_total_limit", "1"}});
  expect_completed(result, 4);
  EXPECT_EQ(lines_with(result.err, "resuming with save_steps: 2, now 3, save_total_limit: 2, now 1").size(), 1u)
      << result.err;
  EXPECT_EQ(checkpoints(), std::vector<std::string>{"step-000006"});
}

TEST_F(CheckpointFaults, AFailedExportIsAllThatTheSameCommandDoesAgain) {
  fs::create_directories(directory_ / "out/model");
  directory_.write("out/model/mine", "not a model");
  const Options options = {{"save_steps", "0"}};
  const RunResult failed = start("sft", 1, options);
  EXPECT_EQ(failed.exit_code, 2) << failed.err;
  EXPECT_EQ(lines_with(failed.err, "expected a model directory to replace").size(), 1u) << failed.err;
  EXPECT_EQ(lines_with(failed.err, "the checkpoint of step 6 has everything").size(), 1u) << failed.err;
  EXPECT_EQ(directory_.read("out/model/mine"), "not a model");
  fs::remove(directory_ / "out/model/mine");
  const RunResult again = start("sft", 2, options);
  expect_completed(again, 6);
  EXPECT_EQ(lines_with(again.err, "all 6 steps are done: only the export is left").size(), 1u) << again.err;
  EXPECT_EQ(lines_with(again.err, "check: ").size(), 0u) << again.err;
  EXPECT_EQ(outcome(), undisturbed("sft"));
  EXPECT_EQ(checkpoints(), std::vector<std::string>());
}

TEST_F(CheckpointFaults, ACompleteRunContinuesToMoreSteps) {
  Options options = {{"lr_scheduler_type", "constant"}, {"save_steps", "3"}, {"max_steps", "4"}};
  expect_completed(start("sft", 1, options), 0);
  EXPECT_EQ(checkpoints(), (std::vector<std::string>{"step-000003", "step-000004"}));
  options["max_steps"] = "6";
  const RunResult result = start("sft", 2, options);
  expect_completed(result, 4);
  EXPECT_EQ(lines_with(result.err, "the run of 4 steps continues after step 4 to step 6: the constant schedule").size(),
            1u)
      << result.err;
  EXPECT_EQ(outcome(), undisturbed("sft", {{"lr_scheduler_type", "constant"}}));
  const auto refused = [&](const Options& given, const char* part) {
    const RunResult run = start("sft", 1, given);
    EXPECT_EQ(run.exit_code, 2) << run.err;
    EXPECT_EQ(lines_with(run.err, part).size(), 1u) << run.err;
  };
  refused({{"lr_scheduler_type", "constant"}, {"max_steps", "5"}}, "max_steps: 6, now 5");
  fs::remove_all(directory_ / "out/checkpoints");
  options["max_steps"] = "9";
  refused(options, "left no checkpoint");
}

TEST_F(CheckpointFaults, ACompleteRunIsNotRunAgain) {
  interrupt();
  expect_completed(start("sft", 2), 4);
  const Outcome first = outcome();
  const auto written = fs::last_write_time(directory_ / "out/model/model.safetensors");
  const RunResult again = start("sft", 4);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(lines_with(again.err, "out: already complete, nothing to do").size(), 1u) << again.err;
  EXPECT_EQ(lines_with(again.err, "step ").size(), 0u) << again.err;
  EXPECT_TRUE(fs::last_write_time(directory_ / "out/model/model.safetensors") == written);
  EXPECT_EQ(start("sft", 2, {{"resume", "never"}}).exit_code, 2);
  // from an older checkpoint given by name
  const RunResult named = start("sft", 2, {{"resume", "out/checkpoints/step-000004"}});
  expect_completed(named, 4);
  EXPECT_EQ(outcome(), first);
}

}  // namespace
}  // namespace plumb::test
