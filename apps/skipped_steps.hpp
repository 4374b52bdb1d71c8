// Steps that change nothing because their loss or gradient norm is not finite: which rows they had.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/step_log.hpp"
#include "lib/model/batch.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// More of them on end are not the rows' fault.
inline constexpr int kMaxSkippedOnEnd = 2;

/// Collective: names the rows of a step, of which `batches` are this rank's, on the screen and in metrics.jsonl. log:
/// rank 0's.
void log_skipped_step(const Communicator& comm, const std::vector<MicroBatch>& batches, int64_t step, double epoch,
                      StepLog* log);

/// Makes pairs not finite where a fault asks for it: batch:STEP:RANK:nan, see lib/base/fault.hpp.
void spoil_on_purpose(std::vector<MicroBatch>& batches, int64_t step, int rank);

}  // namespace plumb
