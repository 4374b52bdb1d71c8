#include "io/dataset/sampler.hpp"

#include <algorithm>

#include "lib/base/check.hpp"
#include "lib/base/random.hpp"

namespace plumb {
namespace {

constexpr int64_t kMaxRowsPerStep = int64_t{1} << 40;

int64_t checked_product(int64_t left, int64_t right, const char* name) {
  if (right < 1 || right > kMaxRowsPerStep / left) {
    throw_error<UsageError>("{}: expected at least 1 and a global batch of at most 2^40 rows, got {}", name, right);
  }
  return left * right;
}

}  // namespace

int64_t StepLayout::steps_per_epoch() const {
  return num_rows / rows_per_step() + (!drop_last && num_rows % rows_per_step() != 0 ? 1 : 0);
}

StepLayout make_step_layout(const SamplerOptions& options, int64_t num_rows, int num_ranks) {
  const int64_t num_micro_batches = checked_product(num_ranks, options.accumulation_steps, "accumulation_steps");
  checked_product(num_micro_batches, options.rows_per_micro_batch, "rows_per_micro_batch");
  return {num_rows, num_micro_batches, options.rows_per_micro_batch, options.drop_last};
}

int64_t row_at(const SamplerOptions& options, int64_t epoch, int64_t index, int64_t num_rows) {
  if (!options.shuffle) return index;
  return static_cast<int64_t>(random_permutation(options.seed, static_cast<uint64_t>(epoch),
                                                 static_cast<uint64_t>(index), static_cast<uint64_t>(num_rows)));
}

std::vector<int64_t> rows_of_micro_batch(const SamplerOptions& options, const StepLayout& layout, int64_t step,
                                         int64_t micro_batch) {
  const int64_t steps_per_epoch = layout.steps_per_epoch();
  check(steps_per_epoch > 0 && step >= 0 && micro_batch >= 0 && micro_batch < layout.micro_batches_per_step,
        "a micro-batch lies within its step");
  const int64_t epoch = step / steps_per_epoch;
  const int64_t begin = step % steps_per_epoch * layout.rows_per_step() + micro_batch * layout.rows_per_micro_batch;
  const int64_t end = std::min(begin + layout.rows_per_micro_batch, layout.num_rows);
  std::vector<int64_t> rows;
  for (int64_t index = begin; index < end; ++index) rows.push_back(row_at(options, epoch, index, layout.num_rows));
  return rows;
}

}  // namespace plumb
