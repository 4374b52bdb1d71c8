// Which rows a micro-batch of a step holds, as pure functions: the state of sampling is the number of the step, so
// neither a restart nor the number of ranks changes which row comes when.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/base/named.hpp"

namespace plumb {

/// When an epoch of a mix of sources ends: before the first source would repeat a row, or once every row has come.
/// Source: `datasets.interleave_datasets`.
enum class StoppingStrategy { kFirstExhausted, kAllExhausted };
template <>
inline constexpr auto kNames<StoppingStrategy> = std::to_array<Named<StoppingStrategy>>(
    {{"first_exhausted", StoppingStrategy::kFirstExhausted}, {"all_exhausted", StoppingStrategy::kAllExhausted}});

/// Consecutive rows, of which every epoch has `rows_per_epoch`: the next ones of a permutation of its rows, then of
/// another one. So no row comes again before all others of its source have.
struct RowSource {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t rows_per_epoch = 0;
  bool operator==(const RowSource&) const = default;
};

/// Sources one after the other, of these sizes, in the proportions of positive weights, of which only the ratios count.
/// The rows of an epoch are rounded to the nearest whole numbers. Throws UsageError where a source would have no row,
/// or an epoch more than 2^40.
std::vector<RowSource> mix_sources(std::span<const int64_t> source_rows, std::span<const double> weights,
                                   StoppingStrategy strategy);

struct SamplerOptions {
  uint64_t seed = 0;
  bool shuffle = true;     // else rows come in file order
  bool drop_last = false;  // leaves out the rows at the end of an epoch that do not fill a step
  int64_t rows_per_micro_batch = 1;
  int64_t accumulation_steps = 1;   // micro-batches of a rank in a step
  std::vector<RowSource> mix = {};  // needs shuffle; empty: every row once an epoch
};

/// The rows of an epoch of a dataset of `num_rows`.
int64_t rows_per_epoch(const SamplerOptions& options, int64_t num_rows);

/// The steps of a dataset: fixed by its rows and the global batch, however many ranks share that.
struct StepLayout {
  int64_t num_rows = 0;                // of an epoch
  int64_t micro_batches_per_step = 1;  // of all ranks
  int64_t rows_per_micro_batch = 1;
  bool drop_last = false;

  int64_t rows_per_step() const { return micro_batches_per_step * rows_per_micro_batch; }
  /// 0 where drop_last leaves none.
  int64_t steps_per_epoch() const;
};

/// Throws UsageError for counts that are not positive, or so large that their product overflows.
StepLayout make_step_layout(const SamplerOptions& options, int64_t num_rows, int num_ranks);

/// The row that comes `index`-th in an epoch of `num_rows`.
int64_t row_at(const SamplerOptions& options, int64_t epoch, int64_t index, int64_t num_rows);

/// The rows of micro-batch `micro_batch` of step `step`, counted from the first of the first epoch; none where the last
/// step of an epoch is short.
std::vector<int64_t> rows_of_micro_batch(const SamplerOptions& options, const StepLayout& layout, int64_t step,
                                         int64_t micro_batch);

}  // namespace plumb
