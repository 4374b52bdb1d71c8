// Steps that change nothing because their loss or gradient norm is not finite, or a spike: which rows they had, and
// what becomes of the run. Source: PaLM (arXiv:2204.02311, section 5.1) goes back to a checkpoint from before a spike,
// and passes over the rows seen since.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "apps/step_log.hpp"
#include "lib/model/batch.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// kStop: the first ends the run. kSkip: the third on end does. kRollback: after the third on end the run goes back to
/// the model of its last checkpoint before them, and on behind them.
enum class OnBadSteps { kStop, kSkip, kRollback };

/// "stop", "skip" or "rollback". Throws UsageError naming these.
OnBadSteps parse_on_bad_steps(std::string_view name);

/// How many on end are skipped; one more is not its rows' fault.
inline constexpr int64_t kMaxSkippedOnEnd = 2;
/// To the same checkpoint; once more would not help.
inline constexpr int64_t kMaxRollbacks = 3;

/// Collective: names the rows of a skipped step, of which `batches` are this rank's, on the screen and in
/// metrics.jsonl. log: rank 0's.
void log_skipped_step(const Communicator& comm, const std::vector<MicroBatch>& batches, const StepStats& stats,
                      int64_t step, double epoch, StepLog* log);

/// Spoils pairs where a fault asks for it, batch:STEP:RANK:nan or :spike (lib/base/fault.hpp): makes their losses not
/// finite, or large.
void spoil_on_purpose(std::vector<MicroBatch>& batches, int64_t step, int rank);

}  // namespace plumb
