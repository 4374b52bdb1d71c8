// Runs all stages of a pipeline file in one job. A completed stage is run again only if its inputs have changed.
#pragma once

#include <vector>

#include "apps/options/pipeline_file.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Throws InputOutputError if a model or a file of rows is missing that no earlier stage makes, before the first stage
/// runs for hours. The patterns of the stages' data must have been replaced by files.
void check_inputs_exist(const std::vector<PlannedStage>& stages);

/// Collective: runs or resumes the stages in order. A file without a path is written to its output_dir as pipeline.ini.
/// Throws UsageError as plan_pipeline(), InputOutputError for missing inputs, and as train_stage(); completed stages
/// are kept.
void run_stages(const Communicator& comm, const PipelineFile& file);

}  // namespace plumb
