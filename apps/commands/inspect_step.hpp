// Prints the rows that a step of a run trained on, the rank that computed each, and the loss of each under a model.
#pragma once

#include <cstdint>
#include <string>

#include "partition/communicator.hpp"

namespace plumb {

/// Prints every row of the step of the run in `run_directory`, on one rank. Losses are those of the model in
/// `model_directory`; "": of the run's newest checkpoint before the step, or else of what it exported. Throws
/// UsageError where the run has no such step, DataError where its data is not what it was.
void inspect_step(const Communicator& comm, const std::string& run_directory, int64_t step,
                  const std::string& model_directory);

}  // namespace plumb
