#include "apps/train/bad_steps.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "lib/base/log.hpp"

namespace plumb {

void log_skipped_step(const Communicator& comm, const std::vector<MicroBatch>& batches, const StepStats& stats,
                      int64_t step, double epoch, StepLog* log) {
  std::vector<int64_t> mine, rows;
  for (const MicroBatch& batch : batches)
    if (!batch.is_empty()) mine.insert(mine.end(), batch.row_ids.begin(), batch.row_ids.end());
  for (const std::vector<int64_t>& part : comm.all_gather(mine)) rows.insert(rows.end(), part.begin(), part.end());
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  if (!log) return;
  log_warning("step {} is skipped: {}; rows {}", step, stats.skip_reason, fmt::join(rows, " "));
  log->write_skipped(step, epoch, rows, stats.skip_reason);
}

}  // namespace plumb
