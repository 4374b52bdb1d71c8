#include "apps/run/resume.hpp"

#include <fmt/format.h>

#include <limits>
#include <string>

#include "apps/run/output_directory.hpp"
#include "io/checkpoint/directory.hpp"
#include "io/file/file.hpp"
#include "io/run/process_identity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

bool is_exported(const TrainOptions& o) {
  const bool has_model = is_regular_file(o.output_dir + "/model/config.json");
  const bool has_adapter = is_regular_file(o.output_dir + "/adapter/adapter_config.json");
  if (!o.lora.is_used()) return has_model;
  return has_adapter && (has_model || !o.exports_merged);
}

/// Whether the batch system has requeued the job of that run, and this is its next start. Then --overwrite_output_dir
/// must not discard what the job itself has written.
bool is_requeued_job(const RunRecord& run) {
  const ProcessIdentity me = this_process();
  return me.restart > 0 && !me.job.empty() && run.job == me.job;
}

/// Whether the run that is there resumes. Throws UsageError if its inputs differ and it is not to be replaced.
StartMode decide_start(const TrainOptions& o, const RunRecord& run, const Inputs& inputs) {
  const std::string changes = run.inputs.empty() ? "" : describe_changes(run.inputs, inputs);
  const bool is_same = !run.inputs.empty() && changes.empty();
  if (is_same) {
    const bool is_done = run.has_ended && is_exported(o) && compare_length(run.inputs, inputs) != LengthChange::kLonger;
    return is_done ? StartMode::kAlreadyDone : StartMode::kResume;
  }
  if (o.replaces_changed_run) return StartMode::kFromScratch;
  throw_error<UsageError>(
      "--output_dir {}: holds a run already (run.json){}{}; choose another directory, or --overwrite_output_dir true",
      o.output_dir, changes.empty() ? "" : ", with other options or data: ", changes);
}

/// Collective: the newest valid checkpoint; none if the run has not saved any.
std::optional<Checkpoint> find_checkpoint(const Communicator& comm, const std::string& output_dir,
                                          const Inputs& inputs) {
  std::optional<Checkpoint> found =
      open_newest_checkpoint(comm, output_dir, inputs, std::numeric_limits<int64_t>::max());
  comm.run_on_rank0([&] {
    const std::string directory = checkpoint_directory(output_dir);
    if (!found && !list_checkpoints(directory).empty())
      throw_error<DataError>("{}: no usable checkpoint to resume from; --overwrite_output_dir true starts from scratch",
                             directory);
  });
  return found;
}

/// Throws UsageError for a complete run that is to be longer and has no checkpoint from which it could continue.
void check_can_continue(const TrainOptions& o, const RunRecord& run) {
  if (!run.has_ended || !is_exported(o) || o.replaces_changed_run) return;
  throw_error<UsageError>(
      "--output_dir {}: its run is complete and left no checkpoint (--save_steps 0), so it cannot continue to more "
      "steps; start from its model in another directory, or --overwrite_output_dir true",
      o.output_dir);
}

/// Rank 0 only.
void log_resume(const RunStart& start) {
  log_info("resuming after step {} from {}", start.num_steps_done(), start.checkpoint->path);
  const std::string changes = describe_allowed_changes(start.saved->inputs, start.inputs);
  if (!changes.empty()) log_info("resuming with {}", changes);
}

/// Collective: adapts gradient_accumulation_steps to the number of ranks. before: rank 0's.
void keep_rows_of_steps(const Communicator& comm, const Inputs& before, TrainOptions& o) {
  const int64_t accumulation = comm.from_rank0([&] { return accumulation_for_resume(before, o, comm.size()); });
  if (comm.rank() == 0 && accumulation != o.gradient_accumulation_steps)
    log_info("resuming with gradient_accumulation_steps {} on {} ranks, so that a step keeps its rows", accumulation,
             comm.size());
  o.gradient_accumulation_steps = accumulation;
}

}  // namespace

RunStart claim_run(const Communicator& comm, TrainOptions& o) {
  const bool names_checkpoint = o.resume.mode == ResumeFrom::Mode::kCheckpoint;
  std::optional<RunRecord> run;  // rank 0's
  StartMode mode = comm.from_rank0([&] {
    open_output_directory(o.output_dir);
    run = read_run_record(o.output_dir);
    if (o.overwrite_output_dir && !(run && is_requeued_job(*run))) run.reset();
    if (run && o.resume.mode == ResumeFrom::Mode::kNever)
      throw_error<UsageError>(
          "--output_dir {}: holds a run already (run.json) and --resume never; choose another directory, or "
          "--overwrite_output_dir true",
          o.output_dir);
    return run ? StartMode::kResume : StartMode::kFromScratch;
  });
  RunStart start;
  if (mode == StartMode::kResume || names_checkpoint) {
    if (names_checkpoint) start.checkpoint = open_checkpoint(comm, o.resume.checkpoint);
    Inputs before;
    comm.run_on_rank0([&] { before = names_checkpoint ? SavedRun(*start.checkpoint).inputs : run->inputs; });
    keep_rows_of_steps(comm, before, o);
    start.inputs = describe_inputs(comm, o);
    if (mode == StartMode::kResume) mode = comm.from_rank0([&] { return decide_start(o, *run, start.inputs); });
    if (mode == StartMode::kResume || names_checkpoint)
      comm.run_on_rank0([&] { check_ranks_share_steps(before, o, comm.size()); });
    if (names_checkpoint) {
      require_same_run(comm, *start.checkpoint, start.inputs);
    } else if (mode == StartMode::kResume) {
      start.checkpoint = find_checkpoint(comm, o.output_dir, start.inputs);
      comm.run_on_rank0([&] {
        if (!start.checkpoint) check_can_continue(o, *run);
      });
    }
    start.is_done = mode == StartMode::kAlreadyDone && !names_checkpoint;
    if (start.checkpoint) start.saved.emplace(*start.checkpoint);
    if (comm.rank() == 0 && start.checkpoint) log_resume(start);
    if (comm.rank() == 0 && !start.checkpoint && mode == StartMode::kResume)
      log_info("{} has no checkpoint yet: starting from scratch", o.output_dir);
  }
  comm.run_on_rank0([&] {
    if (!start.checkpoint && !start.is_done) discard_run(o.output_dir);
  });
  return start;
}

}  // namespace plumb
