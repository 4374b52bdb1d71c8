// Steps that change nothing because their loss or gradient norm is not finite, or a spike: which rows they had, and
// what becomes of the run. Source: PaLM (arXiv:2204.02311, section 5.1) goes back to a checkpoint from before a spike,
// and passes over the rows seen since.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/train/step_log.hpp"
#include "lib/model/batch.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// How many on end are skipped; one more is not its rows' fault.
inline constexpr int64_t kMaxConsecutiveSkips = 2;
/// To the same checkpoint; once more would not help.
inline constexpr int64_t kMaxRollbacks = 3;

/// Collective: names the rows of a skipped step, of which `batches` are this rank's, on the screen and in
/// metrics.jsonl. log: rank 0's.
void log_skipped_step(const Communicator& comm, const std::vector<MicroBatch>& batches, const StepStats& stats,
                      int64_t step, double epoch, StepLog* log);

/// Spoils pairs where a fault asks for it, batch:STEP:RANK:nan or :spike (lib/base/fault.hpp): makes their losses not
/// finite, or large.
void inject_batch_fault(std::vector<MicroBatch>& batches, int64_t step, int rank);

}  // namespace plumb
