// The output directory of a run and its description, run.json. Rank 0 only.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/options/train_options.hpp"
#include "apps/run/inputs.hpp"
#include "partition/communicator.hpp"
#include "partition/memory_plan.hpp"

namespace plumb {

/// Creates the directory and removes unfinished files of killed processes. Throws InputOutputError if it is not
/// writable.
void open_output_directory(const std::string& directory);

/// output_dir/checkpoints
std::string checkpoint_directory(const std::string& output_directory);

/// The contents of run.json that decide how the next start begins.
struct RunRecord {
  Inputs inputs;
  bool has_ended = false;
  std::string job;  // id in the batch system; empty without one
};
/// Reads run.json. Returns nullopt if the directory holds no run. A run.json that cannot be parsed gives a record
/// without inputs.
std::optional<RunRecord> read_run_record(const std::string& directory);

/// Removes run.json, logs and checkpoints of the run in this directory, if any. Its model stays until a new one
/// replaces it.
void discard_run(const std::string& directory);

/// Removes the temporary files and directories NAME.tmp-* of killed processes, for each of these names. No other
/// process may be writing there.
void remove_temporary_files(const std::string& directory, const std::vector<std::string>& names);

/// The contents of run.json beside the options.
struct RunDescription {
  const Inputs& inputs;
  int64_t num_steps_done;  // by earlier starts; 0: a new run
  int64_t num_steps;
  int threads_per_rank;
  const MemoryPlan& plan;
};
/// Writes run.json. Throws InputOutputError.
void write_run_json(const Communicator& comm, const TrainOptions& options, const RunDescription& run);

/// Marks the run in run.json as completed. Throws InputOutputError.
void record_end_of_run(const std::string& directory);

}  // namespace plumb
