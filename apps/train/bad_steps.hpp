// Skipped steps: steps without an update because their loss or gradient norm is not finite, or a spike.
// Source: PaLM (arXiv:2204.02311, section 5.1) restarts from a checkpoint before a spike and skips the rows since then.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/train/step_log.hpp"
#include "lib/model/batch.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Steps in a row that may be skipped; if one more is bad, its rows are not the cause.
inline constexpr int64_t kMaxConsecutiveSkips = 2;
/// Rollbacks to the same checkpoint; another one would not help.
inline constexpr int64_t kMaxRollbacks = 3;

/// Collective: logs the rows of a skipped step, and writes them to metrics.jsonl. batches: this rank's. log: rank 0's.
void log_skipped_step(const Communicator& comm, const std::vector<MicroBatch>& batches, const StepStats& stats,
                      int64_t step, double epoch, StepLog* log);

}  // namespace plumb
