#include "apps/train/bad_steps.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "lib/base/log.hpp"

namespace plumb {

void log_skipped_step(const Communicator& comm, const std::vector<MicroBatch>& batches, const StepStats& stats,
                      int64_t step, double epoch, StepLog* log) {
  std::vector<double> mine;
  for (const MicroBatch& batch : batches)
    if (!batch.is_empty())
      for (const int64_t row : batch.row_ids) mine.push_back(static_cast<double>(row));
  std::vector<int64_t> rows;
  for (const std::vector<double>& part : comm.all_gather(mine))
    for (const double row : part) rows.push_back(static_cast<int64_t>(row));
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  if (!log) return;
  log_warning("step {} is skipped: {}; rows {}", step, stats.skip_reason, fmt::join(rows, " "));
  log->write_skipped(step, epoch, rows, stats.skip_reason);
}

}  // namespace plumb
