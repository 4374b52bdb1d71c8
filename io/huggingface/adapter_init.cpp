#include "io/huggingface/adapter_init.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "io/huggingface/unit_pieces.hpp"
#include "lib/base/check.hpp"
#include "lib/base/random.hpp"

namespace plumb {

namespace {

constexpr int64_t kRowChunkElements = 1 << 18;

/// The unit and the parameter of the base model to which an adapter's parameter belongs.
std::pair<const UnitLayout*, const Parameter*> find_base(const HfModel& base, const Parameter& wanted) {
  for (const UnitLayout& unit : base.units())
    for (const Parameter& parameter : unit.parameters)
      if (parameter.kind == wanted.kind && parameter.layer == wanted.layer) return {&unit, &parameter};
  check(false, "an adapter's parameter belongs to one of its base");
  return {};
}

/// The random stream of an A, distinct from those of the base model's parameters.
uint64_t stream_of(const Parameter& parameter) {
  return uint64_t{1} << 62 | static_cast<uint64_t>(parameter.layer + 1) << 8 | static_cast<uint64_t>(parameter.kind);
}

void fill_uniform(const Parameter& a, uint64_t seed, int64_t first, std::span<float> values) {
  const double bound = 1 / std::sqrt(static_cast<double>(a.shape[1]));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t index = static_cast<uint64_t>(first) + i;
    values[i] = static_cast<float>(bound * (2 * random_uniform(seed, stream_of(a), index) - 1));
  }
}

/// The norms of rows first, first + 1, ... of the base matrix, summed in double from left to right.
void fill_row_norms(const HfModel& base, const Parameter& magnitude, int64_t first, std::span<float> norms) {
  const auto [unit, matrix] = find_base(base, magnitude);
  const int64_t row_elements = matrix->shape[1], last = first + std::ssize(norms);
  const int64_t rows_at_once = std::max<int64_t>(1, kRowChunkElements / row_elements);
  std::vector<float> rows;
  for (int64_t row = first; row < last; row += rows_at_once) {
    const int64_t num_rows = std::min(rows_at_once, last - row);
    rows.resize(num_rows * row_elements);
    const int64_t begin = matrix->offset + row * row_elements;
    base.read_unit_range(*unit, begin, begin + num_rows * row_elements, rows);
    for (int64_t i = 0; i < num_rows; ++i) {
      double sum = 0;
      for (const float x : std::span(rows).subspan(i * row_elements, row_elements))
        sum += static_cast<double>(x) * static_cast<double>(x);
      norms[row - first + i] = static_cast<float>(std::sqrt(sum));
    }
  }
}

}  // namespace

void initial_adapter_range(const HfModel& base, const Adapter& adapter, const UnitLayout& unit, uint64_t seed,
                           int64_t begin, std::span<float> values) {
  check(unit.num_elements == adapter_layout(base.config(), adapter).num_elements, "the unit is the adapter's");
  for_each_piece(unit, begin, begin + std::ssize(values), values,
                 [&](const Parameter& parameter, int64_t first, int64_t last, std::span<float> piece) {
                   switch (parameter.part) {
                     case AdapterPart::kLoraA:
                       return fill_uniform(parameter, seed, first, piece);
                     case AdapterPart::kLoraB:
                       return;  // zero: training starts from the base model itself
                     case AdapterPart::kMagnitude:
                       return fill_row_norms(base, parameter, first, piece);
                     case AdapterPart::kWhole: {
                       const auto [base_unit, whole] = find_base(base, parameter);
                       return base.read_unit_range(*base_unit, whole->offset + first, whole->offset + last, piece);
                     }
                   }
                 });
}

}  // namespace plumb
