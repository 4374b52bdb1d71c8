// All stages of a pipeline file in one job, each once: a stage that is done stays done, until something that it was
// made from changes.
#pragma once

#include "apps/pipeline_file.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Collective. Throws what train_stage() throws; what is done by then is kept.
void run_stages(const Communicator& comm, const PipelineFile& file);

}  // namespace plumb
