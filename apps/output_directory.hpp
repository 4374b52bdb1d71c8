// The directory of a run: claimed once, described in run.json. Rank 0 only.
#pragma once

#include <string>

#include "apps/options.hpp"
#include "lib/text/pair.hpp"
#include "lib/text/row.hpp"
#include "partition/communicator.hpp"
#include "partition/memory_plan.hpp"

namespace plumb {

/// Creates it. Throws UsageError if it holds a run already and is not to be overwritten, InputOutputError if it cannot
/// be written to. Overwriting removes what describes the old run; its model stays until a new one replaces it.
void claim_output_directory(const std::string& directory, bool overwrites);

void write_run_json(const TrainOptions& options, const Communicator& comm, int64_t num_steps, int threads,
                    const MemoryPlan& plan);

/// Throws UsageError where the plan does not fit the memory that this node has left; unknown (0) always fits.
void check_fits(const PlanInput& input, const MemoryPlan& plan, int64_t available_bytes);

SftOptions sft_options(const DataOptions& options);
PairOptions pair_options(const DataOptions& options, bool drops_long_pairs);

Reduction parse_reduction(const std::string& name);

}  // namespace plumb
