// All stages of a pipeline file in one job, each once: a stage that is done stays done, until something that it was
// made from changes.
#pragma once

#include "apps/options/pipeline_file.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Collective. A file that is not on disk yet is written to its output_dir as pipeline.ini. Throws UsageError of
/// plan_pipeline(), InputOutputError for inputs that are not there, and what train_stage() throws; what is done by then
/// is kept.
void run_stages(const Communicator& comm, const PipelineFile& file);

}  // namespace plumb
