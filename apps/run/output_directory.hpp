// The directory of a run: claimed once, described in run.json. Rank 0 only.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/options/train_options.hpp"
#include "apps/run/inputs.hpp"
#include "partition/communicator.hpp"
#include "partition/memory_plan.hpp"

namespace plumb {

/// Creates it, and removes what killed processes left half-written. Throws InputOutputError if it cannot be written to.
void open_output_directory(const std::string& directory);

/// output_dir/checkpoints
std::string checkpoint_directory(const std::string& output_directory);

/// What run.json says of the run that the directory holds.
struct RunRecord {
  Inputs inputs;
  bool has_ended = false;
  std::string job;  // of the batch system, "" without one
};
/// None if the directory holds no run. A run.json that cannot be read is that of a run without inputs.
std::optional<RunRecord> read_run_record(const std::string& directory);

/// Removes what describes the run that is there, if any, and its checkpoints; its model stays until a new one replaces
/// it.
void discard_run(const std::string& directory);

/// Removes what killed processes left of files and directories of these names while they wrote them: NAME.tmp-*. Only
/// where no other process writes there.
void remove_temporary_files(const std::string& directory, const std::vector<std::string>& names);

/// What run.json tells about a run beside its options.
struct RunDescription {
  const Inputs& inputs;
  int64_t num_steps_done;  // before this start; 0: a new run
  int64_t num_steps;
  int threads_per_rank;
  const MemoryPlan& plan;
};
/// Throws InputOutputError.
void write_run_json(const Communicator& comm, const TrainOptions& options, const RunDescription& run);

/// Marks the run in run.json as completed. Throws InputOutputError.
void record_end_of_run(const std::string& directory);

}  // namespace plumb
