// The weights of a model that is trained as those of a decoder: gathered from the shards, or with the adapter merged.
#include "apps/models/shared_decoder.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>

#include <algorithm>

#include "lib/base/check.hpp"
#include "lib/nn/resident_units.hpp"
#include "lib/nn/tensor_ops.hpp"

namespace plumb {

namespace {

/// W with the adapters of its modules merged, float32.
at::Tensor merged(const Linear& linear) {
  const at::Tensor base = linear.weight();
  if (linear.lora.modules.empty()) return base;
  const at::Tensor weight = base.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  for (const LoraGroup::Module& module : linear.lora.modules) {
    const at::Tensor rows = weight.narrow(0, module.first_output, module.num_outputs);
    const at::Tensor a = linear.lora.a_RI.narrow(0, module.first_rank, module.rank).to(at::kFloat);
    rows.add_(at::mm(module.b.to(at::kFloat), a), module.scaling);
    if (!module.magnitude.defined()) continue;
    // a row of zeros stays zero
    const at::Tensor lengths = ops_of(rows).squared_row_norms(rows).sqrt().clamp_min(1e-30);
    rows.mul_((module.magnitude.to(at::kFloat) / lengths).unsqueeze(1));
  }
  return weight;
}

/// Writes embedding or head with the adapter merged, some rows at a time.
void copy_merged(const at::Tensor& to_VD, const at::Tensor& from_VD, const VocabularyAdapter& adapter) {
  constexpr int64_t kElementsAtOnce = int64_t{1} << 22;
  const int64_t rows_at_once = std::max<int64_t>(1, kElementsAtOnce / from_VD.size(1));
  for (int64_t first = 0; first < from_VD.size(0); first += rows_at_once) {
    const int64_t num_rows = std::min(rows_at_once, from_VD.size(0) - first);
    to_VD.narrow(0, first, num_rows).copy_(merged_rows(adapter, from_VD, first, num_rows));
  }
}

/// Copies tensors and counts their elements, so that none is forgotten.
class Copy {
 public:
  explicit Copy(const UnitLayout& unit) {
    for (const Parameter& p : unit.parameters) num_left_ += p.num_elements();
  }
  void operator()(const at::Tensor& to, const at::Tensor& from, const VocabularyAdapter& adapter = {}) {
    if (!to.defined()) return;
    adapter.is_empty() ? void(to.copy_(from)) : copy_merged(to, from, adapter);
    num_left_ -= to.numel();
  }
  void finish() const { check(num_left_ == 0, "every parameter of a unit is copied"); }

 private:
  int64_t num_left_ = 0;
};

void copy_block(const BlockTensors& to, const BlockParameters& from, Copy& copy) {
  for (size_t norm = 0; norm < kNumBlockNorms; ++norm) {
    copy(to.norms[static_cast<BlockNorm>(norm)].weight_D, from.norms[static_cast<BlockNorm>(norm)].weight_D);
    copy(to.norms[static_cast<BlockNorm>(norm)].bias_D, from.norms[static_cast<BlockNorm>(norm)].bias_D);
  }
  copy(to.sinks_H, from.sinks_H);
  copy(to.q_norm_K, from.q_norm_K);
  copy(to.k_norm_K, from.k_norm_K);
  copy(to.qkv_QD, merged(from[Product::kQkv]));
  copy(to.qkv_bias_Q, from[Product::kQkv].bias_O);
  copy(to.o_DO, merged(from[Product::kO]));
  copy(to.o_bias_D, from[Product::kO].bias_O);
  copy(to.gate_up_ED, merged(from[Product::kGateUp]));
  copy(to.gate_up_bias_E, from[Product::kGateUp].bias_O);
  copy(to.down_DF, merged(from[Product::kDown]));
  copy(to.down_bias_D, from[Product::kDown].bias_O);
}

}  // namespace

void SharedDecoder::copy(const TrainedModel& model) {
  if (model.whole) copy(*model.whole);
  if (model.adapted) copy(*model.adapted);
  comm_.barrier();  // no rank decodes before all parts have been copied
}

void SharedDecoder::copy(ShardedModel& model) {
  model.gather_units([&](int unit, const at::Tensor& flat) {
    const auto [begin, end] = part_of(layouts_[unit]);
    if (begin < end) units_[unit].narrow(0, begin, end - begin).copy_(flat.narrow(0, begin, end - begin));
  });
}

/// Each rank of a node merges its share of the units.
void SharedDecoder::copy(AdaptedModel& model) {
  const int num_ranks = comm_.node_size(comm_.node()), me = comm_.local_index(comm_.rank());
  const auto is_mine = [&](size_t unit) { return static_cast<int>(unit) % num_ranks == me; };
  const bool shares_head = config().shares_head();
  Copy copy_first(layouts_.front());
  model.begin_pass(Pass::evaluation());
  const at::Tensor embedding = model.acquire_embedding();
  if (is_mine(0))
    copy_first(view_of(layouts_.front(), units_.front(), ParameterKind::kEmbedding), embedding,
               model.embedding_adapter());
  model.release();
  for (int64_t layer = 0; layer < config().num_layers; ++layer) {
    const BlockParameters parameters = model.acquire_block(layer);
    const auto unit = static_cast<size_t>(layer) + 1;
    if (is_mine(unit)) {
      Copy copy_unit(layouts_[unit]);
      copy_block(block_tensors(layouts_[unit], units_[unit]), parameters, copy_unit);
      copy_unit.finish();
    }
    model.release();
  }
  const HeadTensors head = model.acquire_head();
  const size_t unit = shares_head ? 0 : layouts_.size() - 1;
  if (is_mine(unit)) {
    Copy copy_last(layouts_[unit]);
    const HeadTensors to = head_tensors(layouts_[unit], units_[unit]);
    (shares_head ? copy_first : copy_last)(to.norm_D, head.norm_D);
    (shares_head ? copy_first : copy_last)(to.norm_bias_D, head.norm_bias_D);
    if (!shares_head) copy_last(to.head_VD, head.head_VD, head.adapter);
    if (!shares_head) copy_last.finish();
  }
  if (is_mine(0)) copy_first.finish();
  model.release();
  model.end_pass();
}

}  // namespace plumb
