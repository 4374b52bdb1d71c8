#include "apps/pipeline/pipeline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "apps/models/model_setup.hpp"
#include "apps/pipeline/pipeline_state.hpp"
#include "apps/run/control.hpp"
#include "apps/run/data_files.hpp"
#include "apps/run/resume.hpp"
#include "apps/train/stage.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/report/report.hpp"
#include "io/run/lock.hpp"
#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/log.hpp"
#include "partition/watchdog.hpp"

namespace plumb {

namespace {

void check_model(const char* option, const std::string& directory) {
  if (!is_regular_file(join_path(directory, "config.json")))
    throw_error<InputOutputError>("{} {}: expected a model directory, found no config.json in it", option, directory);
}

/// One limit for the whole job: the longest of the stages; 0, no limit, if a stage has none.
double watchdog_seconds(const std::vector<PlannedStage>& stages) {
  double seconds = 0;
  for (const PlannedStage& stage : stages) {
    if (stage.options.watchdog_seconds == 0) return 0;
    seconds = std::max(seconds, stage.options.watchdog_seconds);
  }
  return seconds;
}

/// Collective: rank 0 decides from the state. A stage that was started resumes, unless its inputs have changed since.
StartMode start_mode(const Communicator& comm, const PipelineState* state, size_t stage, const TrainOptions& o,
                     const Inputs& inputs) {
  return comm.from_rank0([&] {
    const std::string reason = state->reason_to_run(stage, inputs);
    if (reason.empty()) {
      log_info("pipeline: {} is done: {}/model", name_of(o.stage), o.output_dir);
      return StartMode::kAlreadyDone;
    }
    log_info("pipeline: {} runs: {}", name_of(o.stage), reason);
    return state->was_started(stage) ? StartMode::kResume : StartMode::kFromScratch;
  });
}

/// Collective: runs one stage and records its state. state: rank 0's.
void run_stage(const Communicator& comm, PipelineState* state, size_t stage, const TrainOptions& o,
               const Inputs& inputs) {
  const double start_seconds = steady_seconds();
  comm.run_on_rank0([&] { state->set(stage, "running", 0, inputs); });
  const auto record = [&](const char* status) {
    try {
      if (state) state->set(stage, status, steady_seconds() - start_seconds, inputs);
    } catch (const std::exception& error) {
      log_warning("{}", error.what());  // for example on a full disk; the first error is the one to report
    }
  };
  try {
    train_stage(comm, o, /*is_watched=*/true);
  } catch (const StoppedRun&) {
    record("unfinished");
    throw;
  } catch (const std::exception&) {
    record("failed");
    throw;
  }
  release_freed_memory();  // the next stage plans with the memory that is left
  Phase phase("stage-ended", static_cast<int64_t>(stage) + 1);
  comm.run_on_rank0([&] { state->set(stage, "done", steady_seconds() - start_seconds, inputs); });
  phase.next("stage-recorded");
}

}  // namespace

void check_inputs_exist(const std::vector<PlannedStage>& stages) {
  for (const auto& [o, needs] : stages) {
    const auto is_made_by = [&, &sources = needs](Stage stage) {
      return std::find(sources.begin(), sources.end(), stage) != sources.end();
    };
    try {
      if (!is_made_by(Stage::kSft)) check_model("model", o.model.model);
      if (!o.dpo.reward_model.empty() && !is_made_by(Stage::kReward)) check_model("reward_model", o.dpo.reward_model);
      if (!o.dpo.ref_model.empty() && !is_made_by(Stage::kSft)) check_model("ref_model", o.dpo.ref_model);
      if (!is_made_by(Stage::kReward))
        for (const std::string& directory : o.rl.reward_model) check_model("reward_model", directory);
      for (const std::string& path : o.rl.rollouts) File::open_for_reading(path);
      for (const std::string& path : o.data.data) File::open_for_reading(path);
      for (const std::string& path : o.eval_data) File::open_for_reading(path);
    } catch (const InputOutputError& error) {
      throw_error<InputOutputError>("[{}]: {}", name_of(o.stage), error.what());
    }
  }
}

void run_stages(const Communicator& comm, const PipelineFile& file) {
  const std::string directory = pipeline_directory(file);
  std::vector<PlannedStage> stages = plan_pipeline(file);
  for (PlannedStage& stage : stages) stage.options = with_files(comm, std::move(stage.options));
  const Watchdog watchdog(comm, watchdog_seconds(stages));
  std::optional<RunLock> lock;
  std::optional<PipelineState> state;
  comm.run_on_rank0([&] {
    check_inputs_exist(stages);
    lock.emplace(directory);
    state.emplace(directory, stages, comm.size());
    if (file.path.empty()) write_file_atomically(join_path(directory, "pipeline.ini"), render_pipeline_file(file));
  });
  for (size_t i = 0; i < stages.size(); ++i) {
    TrainOptions& o = stages[i].options;
    o.gradient_accumulation_steps = comm.from_rank0([&] { return o.gradient_accumulation_steps; });  // as in its state
    PipelineState* const state_of_rank0 = state ? &*state : nullptr;
    const Inputs inputs = describe_inputs(comm, o);
    const StartMode mode = start_mode(comm, state_of_rank0, i, o, inputs);
    if (mode == StartMode::kAlreadyDone) continue;
    if (comm.rank() == 0) log_info("pipeline: stage {} of {}: {}", i + 1, stages.size(), name_of(o.stage));
    o.overwrite_output_dir = mode == StartMode::kFromScratch || o.resume.mode == ResumeFrom::Mode::kNever;
    o.replaces_changed_run = true;
    run_stage(comm, state_of_rank0, i, o, inputs);
  }
  comm.run_on_rank0([&] {
    state->write();
    log_info("pipeline: done; the report is {}/report.html", directory);
  });
}

}  // namespace plumb
