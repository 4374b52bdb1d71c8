#include "partition/adapted_model.hpp"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "lib/base/check.hpp"
#include "lib/base/exact_sum.hpp"
#include "lib/base/random.hpp"
#include "lib/kernels/kernels.hpp"
#include "partition/padded_rows.hpp"

namespace plumb {

namespace {

int64_t element_bytes(at::ScalarType dtype) { return dtype == at::kFloat ? 4 : 2; }

bool contains(const std::vector<ParameterKind>& kinds, ParameterKind kind) {
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

/// One gather and one reduce-scatter per micro-batch. Gradients are float32.
BufferPlan plan_adapter_buffers(const ShardLayout& unit, const EngineOptions& options) {
  BufferPlan plan;
  plan.slot_bytes = unit.padded_elements() * element_bytes(options.dtype);
  plan.gradient_bytes = options.is_trained ? unit.padded_elements() * 4 : 0;
  plan.gathers = {{0, {0, plan.slot_bytes}}};
  plan.reduces = {{0, {0, plan.gradient_bytes}}};
  plan.num_forward_gathers = 1;
  return plan;
}

}  // namespace

AdaptedModel::AdaptedModel(const ModelConfig& config, const Adapter& adapter, std::vector<FrozenUnit> base,
                           const Communicator& comm, const EngineOptions& options, uint64_t dropout_seed)
    : config_(config),
      adapter_(adapter),
      comm_(comm),
      options_(options),
      dropout_seed_(dropout_seed),
      lowest_layer_(lowest_trained_layer(config, adapter)),
      layouts_{ShardLayout(adapter_layout(config, adapter), comm.size())},
      base_(config, comm, options.dtype, std::move(base), lowest_layer_),
      exchange_(comm, layouts_, plan_adapter_buffers(layouts_.front(), options), options.dtype,
                options.accumulation_steps, options.reduction),
      squared_norms_(config.num_layers) {
  check(!options.is_trained || unit().unit().num_elements > 0, "an adapter has something to train");
  const auto new_span = [this] {
    const int64_t elements = unit().shard_elements();
    memory_.push_back(at::zeros({elements}, at::TensorOptions().dtype(at::kFloat)));
    return std::span(memory_.back().data_ptr<float>(), elements);
  };
  parameters_ = new_span();
  if (!options.is_trained) return;
  moments_ = new_moments(unit(), options);
  const int64_t num_levels = max_open_subtrees(comm.size(), options.accumulation_steps, options.reduction);
  for (int64_t level = 0; level < num_levels; ++level) {
    const std::span<float> memory = new_span();
    if (level == 0) gradients_ = memory;
    levels_.push_back(memory.data());
  }
}

void AdaptedModel::load_adapter(const std::function<void(ElementRange, std::span<float>)>& fill) {
  fill(unit().shard(comm_.rank()), parameters_);
}

bool AdaptedModel::trains_embedding() const { return contains(adapter_.whole, ParameterKind::kEmbedding); }

at::Tensor AdaptedModel::whole(ParameterKind kind, const at::Tensor& flat) const {
  for (const Parameter& p : unit().unit().parameters)
    if (p.part == AdapterPart::kWhole && p.kind == kind)
      return flat.narrow(0, p.offset, p.num_elements()).view(p.shape);
  return {};
}

BlockParameters AdaptedModel::block_parameters(int unit_index, const at::Tensor& bytes,
                                               const at::Tensor& adapter_flat) {
  const int64_t layer = unit_index - 1;
  BlockParameters parameters = base_.block(unit_index, bytes);
  PerProduct<LoraGroup> groups = lora_groups(config_, adapter_, unit().unit(), layer, adapter_flat);
  for (size_t product = 0; product < kNumProducts; ++product) {
    LoraGroup& group = groups[product];
    std::vector<at::Tensor>& norms = squared_norms_[layer][product];
    if (adapter_.has_magnitudes && !group.modules.empty() && norms.empty()) {
      const at::Tensor weight = parameters.linear[product].weight();
      for (const LoraGroup::Module& module : group.modules)
        norms.push_back(squared_row_norms(weight.narrow(0, module.first_output, module.num_outputs)));
    }
    for (size_t i = 0; i < norms.size(); ++i) group.modules[i].squared_norms = norms[i];
    parameters.linear[product].lora = std::move(group);
  }
  return parameters;
}

/// Embedding and blocks; the head's gather is under way on return. `inputs` and `kept` get those of the blocks from the
/// lowest trained one on: what lies below has no backward pass.
at::Tensor AdaptedModel::run_forward(const BlockContext& context, const std::vector<int64_t>& token_ids,
                                     const at::Tensor& adapter_flat, std::vector<at::Tensor>* inputs,
                                     std::vector<BlockActivations>* kept) {
  const at::Tensor ids = at::from_blob(const_cast<int64_t*>(token_ids.data()), {std::ssize(token_ids)},
                                       at::TensorOptions().dtype(at::kLong));
  base_.start(0);
  const at::Tensor embedding_bytes = base_.finish(0);
  base_.start(1);
  at::Tensor x_TD = at::index_select(
      trains_embedding() ? whole(ParameterKind::kEmbedding, adapter_flat) : base_.embedding_VD(embedding_bytes), 0,
      ids);
  base_.release();
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    const int unit_index = static_cast<int>(layer) + 1;
    const at::Tensor bytes = base_.finish(unit_index);
    base_.start(unit_index + 1);
    BlockActivations block_kept;
    if (inputs && layer >= lowest_layer_) inputs->push_back(x_TD);
    x_TD = block_forward(context, layer, block_parameters(unit_index, bytes, adapter_flat), x_TD, block_kept);
    if (kept && layer >= lowest_layer_) kept->push_back(std::move(block_kept));
    base_.release();
  }
  return x_TD;
}

HeadTensors AdaptedModel::head_parameters(const at::Tensor& bytes, const at::Tensor& adapter_flat) const {
  HeadTensors head = base_.head(config_.shares_head() ? 0 : static_cast<int>(config_.num_layers) + 1, bytes);
  for (const ParameterKind kind : {ParameterKind::kHead, ParameterKind::kScore})
    if (contains(adapter_.whole, kind)) head.head_VD = whole(kind, adapter_flat);
  return head;
}

void AdaptedModel::accumulate(const MicroBatch& batch, int64_t accumulation, const ReadRows& read_rows,
                              const HeadPass& head_pass) {
  const PaddedRows rows(batch, options_.dtype);
  BlockContext context(config_, {rows.document_begin, rows.prefix_length},
                       rows_to_compute(read_rows, std::ssize(rows.token_ids), options_.dtype));
  context.dropout = {
      adapter_.dropout, dropout_seed_,
      random_bits(dropout_seed_, static_cast<uint64_t>(num_updates_), static_cast<uint64_t>(batch.number))};
  exchange_.start_gather(0, std::span<const float>(parameters_));
  const at::Tensor adapter_flat = exchange_.finish_gather(0);
  std::vector<at::Tensor> inputs;
  std::vector<BlockActivations> kept;
  const bool keeps_blocks = !options_.has_gradient_checkpointing;
  at::Tensor hidden_TD = run_forward(context, rows.token_ids, adapter_flat, keeps_blocks ? nullptr : &inputs,
                                     keeps_blocks ? &kept : nullptr);

  const int head_operation = static_cast<int>(config_.num_layers) + 1;
  const at::Tensor head_bytes = base_.finish(head_operation);
  base_.start(head_operation + 1);
  const at::Tensor gradient_flat = exchange_.gradient_buffer(0);
  HeadTensors head_gradients;
  for (const ParameterKind kind : {ParameterKind::kHead, ParameterKind::kScore})
    if (contains(adapter_.whole, kind)) head_gradients.head_VD = whole(kind, gradient_flat);
  at::Tensor gradient_TD = pad_gradient(
      head_pass(hidden_TD.narrow(0, 0, batch.num_tokens()), head_parameters(head_bytes, adapter_flat), &head_gradients),
      std::ssize(rows.token_ids));
  hidden_TD.reset();
  base_.release();

  for (int64_t layer = config_.num_layers - 1; layer >= lowest_layer_; --layer) {
    const int operation = head_operation + static_cast<int>(config_.num_layers - layer);
    const at::Tensor bytes = base_.finish(operation);
    base_.start(operation + 1);
    const BlockParameters parameters = block_parameters(static_cast<int>(layer) + 1, bytes, adapter_flat);
    BlockActivations block_kept;
    const auto index = static_cast<size_t>(layer - lowest_layer_);
    if (keeps_blocks) {
      block_kept = std::move(kept[index]);
    } else {
      block_recompute(context, layer, parameters, inputs[index], block_kept);
      inputs[index].reset();
    }
    const BlockGradients gradients(lora_groups(config_, adapter_, unit().unit(), layer, gradient_flat),
                                   trains_embedding() || layer > lowest_layer_);
    gradient_TD = block_backward(context, layer, parameters, block_kept, gradient_TD, gradients);
    base_.release();
  }
  if (trains_embedding()) {
    const at::Tensor embedding_gradient = whole(ParameterKind::kEmbedding, gradient_flat);
    embedding_gradient.zero_();
    add_embedding_gradient(gradient_TD, batch.token_ids, batch.num_tokens(), embedding_gradient);
  }
  exchange_.release_gather();
  exchange_.start_reduce(0);
  exchange_.finish_reduce(0, accumulation, levels_);
}

void AdaptedModel::evaluate(const MicroBatch& batch, const ReadRows& read_rows, const HeadPass& head_pass) {
  const PaddedRows rows(batch, options_.dtype);
  const BlockContext context(config_, {rows.document_begin, rows.prefix_length},
                             rows_to_compute(read_rows, std::ssize(rows.token_ids), options_.dtype));
  exchange_.start_gather(0, std::span<const float>(parameters_));
  const at::Tensor adapter_flat = exchange_.finish_gather(0);
  const at::Tensor hidden_TD = run_forward(context, rows.token_ids, adapter_flat, nullptr, nullptr);
  head_pass(hidden_TD.narrow(0, 0, batch.num_tokens()),
            head_parameters(base_.finish(static_cast<int>(config_.num_layers) + 1), adapter_flat), nullptr);
  base_.release();
  exchange_.release_gather();
}

double AdaptedModel::gradient_norm() const {
  ExactSum squares;
  for (size_t begin = 0; begin < gradients_.size(); begin += kShardAlignment)  // chunks that no rank count moves
    squares.add(float_kernels().sum_of_squares(gradients_.data() + begin, kShardAlignment));
  comm_.sum(squares);
  return std::sqrt(squares.value());
}

void AdaptedModel::update(const AdamWOptions& options, double learning_rate, int64_t step, double gradient_scale) {
  moments_.update(parameters_, gradients_, unit().decay_runs(comm_.rank()),
                  adamw_step(options, learning_rate, step, gradient_scale));
  num_updates_ = step;
}

}  // namespace plumb
