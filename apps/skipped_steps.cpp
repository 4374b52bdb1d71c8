#include "apps/skipped_steps.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "lib/base/fault.hpp"
#include "lib/base/log.hpp"

namespace plumb {

void log_skipped_step(const Communicator& comm, const std::vector<MicroBatch>& batches, int64_t step, double epoch,
                      StepLog* log) {
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
  log_warning("step {} is skipped: loss or gradient norm is not finite; rows {}", step, fmt::join(rows, " "));
  log->write_skipped(step, epoch, rows);
}

void spoil_on_purpose(std::vector<MicroBatch>& batches, int64_t step, int rank) {
  if (!is_fault_due("batch", step, rank, "nan")) return;
  for (MicroBatch& batch : batches)
    for (SequenceLogps& logps : batch.reference_logps) logps.shared = std::numeric_limits<double>::quiet_NaN();
}

}  // namespace plumb
