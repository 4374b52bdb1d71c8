#include "apps/pipeline/pipeline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "apps/models/model_setup.hpp"
#include "apps/pipeline/pipeline_state.hpp"
#include "apps/run/control.hpp"
#include "apps/train/stage.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/report/report.hpp"
#include "io/run/lock.hpp"
#include "lib/base/check.hpp"
#include "lib/base/fault.hpp"
#include "lib/base/log.hpp"
#include "partition/watchdog.hpp"

namespace plumb {

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void check_model(const char* option, const std::string& directory) {
  if (!is_regular_file(join_path(directory, "config.json")))
    throw_error<InputOutputError>("{} {}: expected a model directory, found no config.json in it", option, directory);
}

/// Rank 0 only: files that a later stage lacks are missed before the first one has run for hours. Throws
/// InputOutputError.
void check_inputs_exist(const std::vector<PlannedStage>& stages) {
  for (const auto& [o, needs] : stages) {
    const auto is_made = [&, &made = needs](Stage stage) {
      return std::find(made.begin(), made.end(), stage) != made.end();
    };
    try {
      if (!is_made(Stage::kSft)) check_model("model", o.model.model);
      if (!o.dpo.reward_model.empty() && !is_made(Stage::kReward)) check_model("reward_model", o.dpo.reward_model);
      if (!o.dpo.ref_model.empty() && !is_made(Stage::kSft)) check_model("ref_model", o.dpo.ref_model);
      for (const std::string& path : o.data.data) File::open_for_reading(path);
      for (const std::string& path : o.eval_data) File::open_for_reading(path);
    } catch (const InputOutputError& error) {
      throw_error<InputOutputError>("[{}]: {}", name_of(o.stage), error.what());
    }
  }
}

/// One limit for all stages and what lies between them: the longest. 0, none, if a stage is to have none.
double watchdog_seconds(const std::vector<PlannedStage>& stages) {
  double seconds = 0;
  for (const PlannedStage& stage : stages) {
    if (stage.options.watchdog_seconds == 0) return 0;
    seconds = std::max(seconds, stage.options.watchdog_seconds);
  }
  return seconds;
}

enum class StageStart : int64_t {
  kDone,
  kGoesOn,  // from where an unfinished try left off, unless its inputs were others
  kAnew,
};

/// Collective: what rank 0 found.
StageStart start_of_stage(const Communicator& comm, const PipelineState* state, size_t stage, const TrainOptions& o,
                          const Inputs& inputs) {
  auto way = static_cast<int64_t>(StageStart::kDone);
  comm.run_on_rank0([&] {
    const std::string reason = state->reason_to_run(stage, inputs);
    if (reason.empty()) return log_info("pipeline: {} is done: {}/model", name_of(o.stage), o.output_dir);
    log_info("pipeline: {} runs: {}", name_of(o.stage), reason);
    way = static_cast<int64_t>(state->has_begun(stage) ? StageStart::kGoesOn : StageStart::kAnew);
  });
  comm.max(std::span(&way, 1));
  return static_cast<StageStart>(way);
}

}  // namespace

void run_stages(const Communicator& comm, const PipelineFile& file) {
  const std::string directory = pipeline_directory(file);
  std::vector<PlannedStage> stages = plan_pipeline(file);
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
    int64_t accumulation = comm.rank() == 0 ? o.gradient_accumulation_steps : 0;  // state decided
    comm.max({&accumulation, 1});
    o.gradient_accumulation_steps = accumulation;
    const Inputs inputs = describe_inputs(comm, o);
    const StageStart way = start_of_stage(comm, state ? &*state : nullptr, i, o, inputs);
    if (way == StageStart::kDone) continue;
    const auto start = std::chrono::steady_clock::now();
    comm.run_on_rank0([&] {
      log_info("pipeline: stage {} of {}: {}", i + 1, stages.size(), name_of(o.stage));
      state->set(i, "running", 0, inputs);
    });
    o.overwrite_output_dir = way == StageStart::kAnew || o.resume.mode == ResumeFrom::Mode::kNever;
    o.replaces_changed_run = true;
    const auto set_aside = [&](const char* status) {
      try {
        if (state) state->set(i, status, seconds_since(start), inputs);
      } catch (const std::exception& error) {
        log_warning("{}", error.what());  // on a full disk, say: the first error is the one to tell
      }
    };
    try {
      train_stage(comm, o, /*is_watched=*/true);
    } catch (const StoppedRun&) {
      set_aside("unfinished");
      throw;
    } catch (const std::exception&) {
      set_aside("failed");
      throw;
    }
    release_freed_memory();  // the next stage plans with the memory that is left
    const auto num_ended = static_cast<int64_t>(i) + 1;
    fault_point("stage-ended", num_ended, comm.rank());
    comm.run_on_rank0([&] { state->set(i, "done", seconds_since(start), inputs); });
    fault_point("stage-recorded", num_ended, comm.rank());
  }
  comm.run_on_rank0([&] {
    state->write();
    log_info("pipeline: done; the report is {}/report.html", directory);
  });
}

}  // namespace plumb
