#include "io/huggingface/merged_weights.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr int64_t kBlock = 64;  // elements of a row that are computed together
constexpr int64_t kRowsAtOnce = 64;

/// Reads rows [first_row, first_row + num_rows) of an adapter's parameter.
std::vector<float> read_rows(const PeftAdapter& adapter, const Parameter& parameter, int64_t first_row,
                             int64_t num_rows) {
  const int64_t row_elements = parameter.num_elements() / parameter.shape[0];
  std::vector<float> values(num_rows * row_elements);
  const int64_t begin = parameter.offset + first_row * row_elements;
  adapter.read_range(begin, begin + num_rows * row_elements, values);
  return values;
}

/// row[i] += scaling * sum over r of b[r] * a[r][i], for columns first_column + i; a: [rank, num_columns].
void add_low_rank(std::span<const float> b, std::span<const float> a, int64_t num_columns, float scaling,
                  int64_t first_column, std::span<float> row) {
  const int64_t size = std::ssize(row);
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    const int64_t n = std::min(kBlock, size - begin);
    std::array<float, kBlock> sum{};
    for (size_t r = 0; r < b.size(); ++r) {
      const float factor = b[r];
      const float* x = a.data() + static_cast<int64_t>(r) * num_columns + first_column + begin;
      if (n == kBlock) {
        for (int64_t i = 0; i < kBlock; ++i) sum[i] += factor * x[i];
      } else {
        for (int64_t i = 0; i < n; ++i) sum[i] += factor * x[i];
      }
    }
    for (int64_t i = 0; i < n; ++i) row[begin + i] += scaling * sum[i];
  }
}

std::vector<float> transposed(const std::vector<float>& values, int64_t num_rows, int64_t num_columns) {
  std::vector<float> result(values.size());
  for (int64_t row = 0; row < num_rows; ++row)
    for (int64_t column = 0; column < num_columns; ++column)
      result[column * num_rows + row] = values[row * num_columns + column];
  return result;
}

/// Scales the row to length `magnitude`. A row of zeros is unchanged.
void set_length(float magnitude, std::span<float> row) {
  double sum = 0;
  for (const float x : row) sum += static_cast<double>(x) * static_cast<double>(x);
  if (sum == 0) return;
  const auto factor = static_cast<float>(magnitude / std::sqrt(sum));
  for (float& x : row) x *= factor;
}

/// Merges one adapted matrix into `piece`, its elements [first, last).
class MatrixMerge {
 public:
  MatrixMerge(const PeftAdapter& adapter, const LoraTarget& target, const Parameter& matrix)
      : adapter_(adapter),
        matrix_(matrix),
        scaling_(static_cast<float>(target.scaling)),
        a_(adapter.find(target.kind, target.layer, AdapterPart::kLoraA)),
        b_(adapter.find(target.kind, target.layer, AdapterPart::kLoraB)),
        magnitude_(adapter.find(target.kind, target.layer, AdapterPart::kMagnitude)) {
    check(a_ != nullptr && b_ != nullptr, "a target has its two matrices");
    rank_ = target.rank;
    if (target.kind != ParameterKind::kEmbedding) {
      a_values_ = read_rows(adapter, *a_, 0, rank_);
    } else {  // (B A)^T = A^T B^T
      a_values_ = transposed(read_rows(adapter, *b_, 0, b_->shape[0]), b_->shape[0], rank_);
      all_of_b_ = transposed(read_rows(adapter, *a_, 0, rank_), rank_, a_->shape[1]);
    }
  }

  void run(int64_t first, int64_t last, std::span<float> piece, const ReadBase& read_base) const {
    const int64_t columns = matrix_.shape[1], rank = rank_;
    const int64_t end_row = (last + columns - 1) / columns;
    std::vector<float> b, magnitudes, whole_row;
    for (int64_t row = first / columns, row_of_b = row; row < end_row; ++row) {
      if (b.empty() || row >= row_of_b + kRowsAtOnce) {
        row_of_b = row;
        const int64_t num_rows = std::min(kRowsAtOnce, end_row - row);
        b = rows_of_b(row, num_rows);
        if (magnitude_ != nullptr) magnitudes = read_rows(adapter_, *magnitude_, row, num_rows);
      }
      const auto index = static_cast<size_t>(row - row_of_b);
      const std::span<const float> factors = std::span(b).subspan(index * static_cast<size_t>(rank), rank);
      const int64_t from = std::max(first, row * columns), to = std::min(last, (row + 1) * columns);
      const auto part = piece.subspan(from - first, to - from);
      if (magnitude_ == nullptr) {
        add_low_rank(factors, a_values_, columns, scaling_, from - row * columns, part);
      } else if (to - from == columns) {
        add_low_rank(factors, a_values_, columns, scaling_, 0, part);
        set_length(magnitudes[index], part);
      } else {
        whole_row.resize(columns);
        read_base(matrix_.offset + row * columns, matrix_.offset + (row + 1) * columns, whole_row);
        add_low_rank(factors, a_values_, columns, scaling_, 0, whole_row);
        set_length(magnitudes[index], whole_row);
        std::copy_n(whole_row.begin() + (from - row * columns), to - from, part.begin());
      }
    }
  }

 private:
  std::vector<float> rows_of_b(int64_t row, int64_t num_rows) const {
    if (all_of_b_.empty()) return read_rows(adapter_, *b_, row, num_rows);
    return {all_of_b_.begin() + row * rank_, all_of_b_.begin() + (row + num_rows) * rank_};
  }

  const PeftAdapter& adapter_;
  const Parameter& matrix_;
  float scaling_;
  const Parameter *a_, *b_, *magnitude_;
  int64_t rank_ = 0;
  std::vector<float> a_values_;
  std::vector<float> all_of_b_;  // of the embedding only
};

/// Merges the adapters of a layer's experts into `piece`, elements [first, last) of `matrix`: that of one expert, or of
/// all of them, [experts, in, out].
void merge_experts(const PeftAdapter& adapter, const LoraTarget& target, int64_t num_experts, const Parameter& matrix,
                   int64_t first, int64_t last, std::span<float> piece) {
  const Parameter& a = *adapter.find(target.kind, target.layer, AdapterPart::kLoraA);
  const Parameter& b = *adapter.find(target.kind, target.layer, AdapterPart::kLoraB);
  const int64_t rank = target.rank / num_experts, columns = matrix.shape.back(), outputs = b.shape[0];
  const bool is_transposed = matrix.expert < 0;
  const int64_t rows_of_expert = is_transposed ? matrix.shape[1] : matrix.shape[0];
  const int64_t first_output = matrix.kind == ParameterKind::kExpertUp ? outputs / 2 : 0;
  const std::vector<float> all_of_b = read_rows(adapter, b, first_output, is_transposed ? outputs : rows_of_expert);
  std::vector<float> a_values, b_values;  // of one expert: [rank, in], and by row of `matrix` what its A or B has there
  int64_t expert = -1;
  for (int64_t row = first / columns; row * columns < last; ++row) {
    const int64_t its_expert = is_transposed ? row / rows_of_expert : matrix.expert;
    if (its_expert != expert) {
      expert = its_expert;
      a_values = read_rows(adapter, a, expert * rank, rank);
      b_values.resize(all_of_b.size() / num_experts);  // [out, rank]
      for (size_t i = 0; i < b_values.size(); ++i) b_values[i] = all_of_b[i * num_experts + expert];
      if (is_transposed) {  // (B A)^T = A^T B^T
        a_values.swap(b_values);
        a_values = transposed(a_values, outputs, rank);
        b_values = transposed(b_values, rank, rows_of_expert);
      }
    }
    const int64_t from = std::max(first, row * columns), to = std::min(last, (row + 1) * columns);
    add_low_rank(std::span(b_values).subspan(row % rows_of_expert * rank, rank), a_values, columns,
                 static_cast<float>(target.scaling), from - row * columns, piece.subspan(from - first, to - from));
  }
}

/// The target that is beside the experts' matrix, or null.
const LoraTarget* find_expert_target(const Adapter& adapter, const Parameter& parameter) {
  using enum ParameterKind;
  const bool is_gate_up =
      parameter.kind == kExpertGate || parameter.kind == kExpertUp || parameter.kind == kExpertsGateUp;
  if (!is_gate_up && parameter.kind != kExpertDown && parameter.kind != kExpertsDown) return nullptr;
  for (const LoraTarget& target : adapter.targets)
    if (target.kind == (is_gate_up ? kExpertsGateUp : kExpertsDown) && target.layer == parameter.layer) return &target;
  return nullptr;
}

/// Replaces rows of a matrix with `columns` columns in `piece`, its elements [first, last).
void merge_rows(const PeftAdapter& adapter, const AdapterRows& rows, int64_t columns, int64_t first, int64_t last,
                std::span<float> piece) {
  const Parameter& trained = *adapter.find(rows.kind, -1, AdapterPart::kRows);
  for (int64_t i = 0; i < std::ssize(rows.tokens); ++i) {
    const int64_t begin = rows.tokens[i] * columns, begin_of_trained = trained.offset + i * columns;
    const int64_t from = std::max(first, begin), to = std::min(last, begin + columns);
    if (from < to)
      adapter.read_range(begin_of_trained + from - begin, begin_of_trained + to - begin,
                         piece.subspan(from - first, to - from));
  }
}

/// The target of this parameter, or null.
const LoraTarget* find_target(const Adapter& adapter, const Parameter& parameter) {
  for (const std::vector<LoraTarget>* targets : {&adapter.targets, &adapter.outer_targets})
    for (const LoraTarget& target : *targets)
      if (target.kind == parameter.kind && target.layer == parameter.layer) return &target;
  return nullptr;
}

}  // namespace

void merge_adapter(const PeftAdapter& adapter, const UnitLayout& unit, int64_t begin, int64_t end,
                   std::span<float> values, const ReadBase& read_base) {
  for (const Parameter& parameter : unit.parameters) {
    const int64_t first = std::max(begin, parameter.offset);
    const int64_t last = std::min(end, parameter.offset + parameter.num_elements());
    if (first >= last) continue;
    const auto piece = values.subspan(first - begin, last - first);
    if (const Parameter* whole = adapter.find(parameter.kind, parameter.layer, AdapterPart::kWhole)) {
      const int64_t shift = whole->offset - parameter.offset;
      adapter.read_range(first + shift, last + shift, piece);
      continue;
    }
    for (const AdapterRows& rows : adapter.adapter().rows)
      if (rows.kind == parameter.kind)
        merge_rows(adapter, rows, parameter.shape[1], first - parameter.offset, last - parameter.offset, piece);
    if (const LoraTarget* experts = find_expert_target(adapter.adapter(), parameter)) {
      merge_experts(adapter, *experts, adapter.model().mixture.num_experts, parameter, first - parameter.offset,
                    last - parameter.offset, piece);
      continue;
    }
    const LoraTarget* target = find_target(adapter.adapter(), parameter);
    if (target == nullptr) continue;
    MatrixMerge(adapter, *target, parameter).run(first - parameter.offset, last - parameter.offset, piece, read_base);
  }
}

}  // namespace plumb
