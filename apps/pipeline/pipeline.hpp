// Runs all stages of a pipeline file in one job. A completed stage is run again only if its inputs have changed.
#pragma once

#include "apps/options/pipeline_file.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Collective: runs or resumes the stages in order. A file without a path is written to its output_dir as pipeline.ini.
/// Throws UsageError as plan_pipeline(), InputOutputError for missing inputs, and as train_stage(); completed stages
/// are kept.
void run_stages(const Communicator& comm, const PipelineFile& file);

}  // namespace plumb
