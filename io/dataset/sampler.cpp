#include "io/dataset/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

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

/// Whole numbers that add up to the rounded sum of `shares`, each the share rounded up or down.
std::vector<int64_t> round_to_sum(const std::vector<double>& shares) {
  std::vector<int64_t> counts;
  for (const double share : shares) counts.push_back(static_cast<int64_t>(std::floor(share)));
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  int64_t num_left = std::llround(sum) - std::accumulate(counts.begin(), counts.end(), int64_t{0});
  std::vector<size_t> order(shares.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto rest = [&](size_t i) { return shares[i] - std::floor(shares[i]); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rest(a) > rest(b); });
  for (size_t i = 0; num_left > 0 && i < order.size(); ++i, --num_left) ++counts[order[i]];
  return counts;
}

/// The row at `place` of an epoch in which the sources follow each other.
int64_t row_of_mix(const SamplerOptions& options, int64_t epoch, int64_t place) {
  size_t source = 0;
  while (place >= options.mix[source].rows_per_epoch) place -= options.mix[source++].rows_per_epoch;
  const RowSource& rows = options.mix[source];
  // apart from the streams of epochs, whose numbers are small
  constexpr uint64_t kStreamOfSources = uint64_t{1} << 63;
  constexpr int kPassBits = 40;
  const int64_t draw = epoch * rows.rows_per_epoch + place;
  const uint64_t pass = static_cast<uint64_t>(draw / rows.num_rows);
  const uint64_t stream = kStreamOfSources | static_cast<uint64_t>(source) << kPassBits | pass;
  return rows.first_row +
         static_cast<int64_t>(random_permutation(options.seed, stream, static_cast<uint64_t>(draw % rows.num_rows),
                                                 static_cast<uint64_t>(rows.num_rows)));
}

}  // namespace

std::vector<RowSource> mix_sources(std::span<const int64_t> source_rows, std::span<const double> weights,
                                   StoppingStrategy strategy) {
  check(source_rows.size() == weights.size() && !weights.empty(), "every source has a weight");
  constexpr double kRounding = 1e-9;  // so that 7 rows of weight 0.7 are exactly an epoch of 10
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  double epoch_rows = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (source_rows[i] == 0) {
      throw_error<DataError>("data_weights: expected rows from every item of data, got none that are kept from item {}",
                             i + 1);
    }
    const double rows = static_cast<double>(source_rows[i]) / (weights[i] / sum);
    const bool is_first = strategy == StoppingStrategy::kFirstExhausted;
    epoch_rows = i == 0 ? rows : is_first ? std::min(epoch_rows, rows) : std::max(epoch_rows, rows);
  }
  if (!(epoch_rows <= static_cast<double>(kMaxRowsPerStep))) {
    throw_error<UsageError>("data_weights: expected an epoch of at most 2^40 rows, got {:.3g}", epoch_rows);
  }
  epoch_rows = strategy == StoppingStrategy::kFirstExhausted ? std::floor(epoch_rows * (1 + kRounding))
                                                             : std::ceil(epoch_rows * (1 - kRounding));
  std::vector<double> shares;
  for (const double weight : weights) shares.push_back(epoch_rows * (weight / sum));
  const std::vector<int64_t> counts = round_to_sum(shares);
  std::vector<RowSource> mix;
  int64_t first_row = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (counts[i] == 0) {
      throw_error<UsageError>(
          "data_weights: expected weights that give every item of data a row, got {} for item {}, which has none of "
          "the "
          "{} rows of an epoch",
          weights[i], i + 1, static_cast<int64_t>(epoch_rows));
    }
    mix.push_back({first_row, source_rows[i], counts[i]});
    first_row += source_rows[i];
  }
  return mix;
}

int64_t rows_per_epoch(const SamplerOptions& options, int64_t num_rows) {
  if (options.mix.empty()) return num_rows;
  int64_t rows = 0;
  for (const RowSource& source : options.mix) rows += source.rows_per_epoch;
  return rows;
}

int64_t StepLayout::steps_per_epoch() const {
  return num_rows / rows_per_step() + (!drop_last && num_rows % rows_per_step() != 0 ? 1 : 0);
}

StepLayout make_step_layout(const SamplerOptions& options, int64_t num_rows, int num_ranks) {
  const int64_t num_micro_batches = checked_product(num_ranks, options.accumulation_steps, "accumulation_steps");
  checked_product(num_micro_batches, options.rows_per_micro_batch, "rows_per_micro_batch");
  return {rows_per_epoch(options, num_rows), num_micro_batches, options.rows_per_micro_batch, options.drop_last};
}

int64_t row_at(const SamplerOptions& options, int64_t epoch, int64_t index, int64_t num_rows) {
  check(options.shuffle || options.mix.empty(), "a mix is shuffled");
  if (!options.shuffle) return index;
  const auto place = static_cast<int64_t>(random_permutation(
      options.seed, static_cast<uint64_t>(epoch), static_cast<uint64_t>(index), static_cast<uint64_t>(num_rows)));
  return options.mix.empty() ? place : row_of_mix(options, epoch, place);
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
