// The directory of a run: claimed once, described in run.json. Rank 0 only.
#pragma once

#include <string>
#include <vector>

#include "apps/train_options.hpp"
#include "partition/communicator.hpp"
#include "partition/memory_plan.hpp"

namespace plumb {

/// Creates it. Throws UsageError if it holds a run already and is not to be overwritten, InputOutputError if it cannot
/// be written to. Overwriting removes what describes the old run; its model stays until a new one replaces it.
void claim_output_directory(const std::string& directory, bool overwrites);

/// Removes what killed processes left of files and directories of these names while they wrote them: NAME.tmp-*. Only
/// where no other process writes there.
void remove_temporary_files(const std::string& directory, const std::vector<std::string>& names);

void write_run_json(const TrainOptions& options, const Communicator& comm, int64_t num_steps, int threads,
                    const MemoryPlan& plan);

/// Throws UsageError where the plan does not fit the memory that this node has left; unknown (0) always fits.
void check_fits(const PlanInput& input, const MemoryPlan& plan, int64_t available_bytes);

Reduction parse_reduction(const std::string& name);

}  // namespace plumb
