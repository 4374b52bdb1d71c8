// Which rows a micro-batch of a step holds, as pure functions: the state of sampling is the number of the step, so
// neither a restart nor the number of ranks changes which row comes when.
#pragma once

#include <cstdint>
#include <vector>

namespace plumb {

struct SamplerOptions {
  uint64_t seed = 0;
  bool shuffle = true;     // else rows come in file order
  bool drop_last = false;  // leaves out the rows at the end of an epoch that do not fill a step
  int64_t rows_per_micro_batch = 1;
  int64_t accumulation_steps = 1;  // micro-batches of a rank in a step
};

/// The steps of a dataset: fixed by its rows and the global batch, however many ranks share that.
struct StepLayout {
  int64_t num_rows = 0;
  int64_t micro_batches_per_step = 1;  // of all ranks
  int64_t rows_per_micro_batch = 1;
  bool drop_last = false;

  int64_t rows_per_step() const { return micro_batches_per_step * rows_per_micro_batch; }
  /// 0 where drop_last leaves none.
  int64_t steps_per_epoch() const;
};

/// Throws UsageError for counts that are not positive, or so large that their product overflows.
StepLayout make_step_layout(const SamplerOptions& options, int64_t num_rows, int num_ranks);

/// The row that comes `index`-th in an epoch.
int64_t row_at(const SamplerOptions& options, int64_t epoch, int64_t index, int64_t num_rows);

/// The rows of micro-batch `micro_batch` of step `step`, counted from the first of the first epoch; none where the last
/// step of an epoch is short.
std::vector<int64_t> rows_of_micro_batch(const SamplerOptions& options, const StepLayout& layout, int64_t step,
                                         int64_t micro_batch);

}  // namespace plumb
