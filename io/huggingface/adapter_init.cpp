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

/// Training starts from the base itself: one of the two matrices is zero. As in PEFT that is B, but for the embedding
/// A, whose gradient touches the tokens of the texts only.
void fill_low_rank(const Parameter& parameter, uint64_t seed, int64_t first, std::span<float> values) {
  const bool is_a = parameter.part == AdapterPart::kLoraA;
  if (parameter.kind != ParameterKind::kEmbedding) {
    if (is_a) fill_uniform(parameter, seed, first, values);
    return;
  }
  for (size_t i = 0; !is_a && i < values.size(); ++i)
    values[i] = static_cast<float>(random_normal(seed, stream_of(parameter), static_cast<uint64_t>(first) + i));
}

/// The values of the base for a parameter, or rows of one, that is trained from them.
void fill_from_base(const HfModel& base, const Adapter& adapter, const Parameter& parameter, int64_t first,
                    std::span<float> values) {
  const auto [unit, whole] = find_base(base, parameter);
  const auto read = [&, unit = unit, whole = whole](int64_t begin, std::span<float> out) {
    base.read_unit_range(*unit, whole->offset + begin, whole->offset + begin + std::ssize(out), out);
  };
  if (parameter.part == AdapterPart::kWhole) return read(first, values);
  const int64_t columns = parameter.shape[1], last = first + std::ssize(values);
  for (const AdapterRows& rows : adapter.rows) {
    if (rows.kind != parameter.kind) continue;
    for (int64_t row = first / columns; row * columns < last; ++row) {
      const int64_t from = std::max(first, row * columns), to = std::min(last, (row + 1) * columns);
      read(rows.tokens[row] * columns + from - row * columns, values.subspan(from - first, to - from));
    }
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
                 [&](const Parameter& parameter, int64_t first, int64_t, std::span<float> piece) {
                   switch (parameter.part) {
                     case AdapterPart::kLoraA:
                     case AdapterPart::kLoraB:
                       return fill_low_rank(parameter, seed, first, piece);
                     case AdapterPart::kMagnitude:
                       return fill_row_norms(base, parameter, first, piece);
                     case AdapterPart::kWhole:
                     case AdapterPart::kRows:
                       return fill_from_base(base, adapter, parameter, first, piece);
                   }
                 });
}

}  // namespace plumb
