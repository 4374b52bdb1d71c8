#include "lib/nn/vocabulary_adapter.hpp"

#include <unordered_map>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/nn/matmul.hpp"

namespace plumb {

namespace {

/// The tokens of a text that have a trained row: their positions, and the row of each.
struct TrainedTokens {
  std::vector<int64_t> positions, rows;
};

TrainedTokens find_trained(std::span<const int64_t> trained, std::span<const int64_t> token_ids, int64_t frozen_token) {
  std::unordered_map<int64_t, int64_t> row_of;
  for (size_t row = 0; row < trained.size(); ++row)
    if (trained[row] != frozen_token) row_of.emplace(trained[row], static_cast<int64_t>(row));
  TrainedTokens found;
  for (size_t i = 0; i < token_ids.size(); ++i) {
    const auto row = row_of.find(token_ids[i]);
    if (row == row_of.end()) continue;
    found.positions.push_back(static_cast<int64_t>(i));
    found.rows.push_back(row->second);
  }
  return found;
}

}  // namespace

VocabularyAdapter vocabulary_adapter(const Adapter& adapter, const UnitLayout& unit, ParameterKind kind,
                                     const at::Tensor& flat) {
  VocabularyAdapter parts;
  for (const Parameter& p : unit.parameters) {
    if (p.kind != kind || p.layer >= 0 || p.part == AdapterPart::kWhole) continue;
    const at::Tensor view = flat.narrow(0, p.offset, p.num_elements()).view(p.shape);
    const bool is_embedding = kind == ParameterKind::kEmbedding;  // W + scaling (B A)^T
    if (p.part == AdapterPart::kLoraA) (is_embedding ? parts.left_VR : parts.right_RD) = is_embedding ? view.t() : view;
    if (p.part == AdapterPart::kLoraB) (is_embedding ? parts.right_RD : parts.left_VR) = is_embedding ? view.t() : view;
    if (p.part == AdapterPart::kRows) parts.rows_ND = view;
    check(p.part != AdapterPart::kMagnitude, "embedding and head are trained without magnitudes");
  }
  for (const LoraTarget& target : adapter.outer_targets)
    if (target.kind == kind) parts.scaling = target.scaling;
  for (const AdapterRows& rows : adapter.rows)
    if (rows.kind == kind) parts.tokens = rows.tokens;
  return parts;
}

void zero(const VocabularyAdapter& gradients) {
  for (const at::Tensor& gradient : {gradients.left_VR, gradients.right_RD, gradients.rows_ND})
    if (gradient.defined()) gradient.zero_();
}

void adapt_lookup(const VocabularyAdapter& adapter, std::span<const int64_t> token_ids, at::Tensor x_TD) {
  if (adapter.left_VR.defined()) {
    const at::Tensor left_TR = take_rows(adapter.left_VR, token_ids);
    if (x_TD.scalar_type() == at::kFloat || has_pair_products())
      matmul_accumulate(x_TD, left_TR, adapter.right_RD, adapter.scaling);
    else  // not by LibTorch, whose bits of a row depend on the number of rows
      x_TD.add_(product(left_TR.to(at::kFloat), adapter.right_RD.to(at::kFloat)), adapter.scaling);
  }
  if (!adapter.rows_ND.defined()) return;
  const TrainedTokens trained = find_trained(adapter.tokens, token_ids, -1);
  ops_of(x_TD).put_rows(take_rows(adapter.rows_ND, trained.rows), trained.positions, x_TD);
}

void add_lookup_gradients(const VocabularyAdapter& adapter, const at::Tensor& dx_TD, std::span<const int64_t> token_ids,
                          int64_t frozen_token, const VocabularyAdapter& gradients) {
  if (gradients.left_VR.defined()) {
    const at::Tensor left_TR = take_rows(adapter.left_VR, token_ids);
    gradients.right_RD.add_(product(left_TR.t(), dx_TD), adapter.scaling);
    const at::Tensor dleft_TR = product(dx_TD, adapter.right_RD.t()).to(at::kFloat).mul_(adapter.scaling);
    ops_of(dleft_TR).add_rows_by_token(dleft_TR, token_ids, frozen_token, gradients.left_VR);
  }
  if (!gradients.rows_ND.defined()) return;
  const TrainedTokens trained = find_trained(adapter.tokens, token_ids, frozen_token);
  if (trained.rows.empty()) return;
  ops_of(dx_TD).add_rows_by_token(take_rows(dx_TD, trained.positions), trained.rows, -1, gradients.rows_ND);
}

}  // namespace plumb
