#include "partition/adapted_model.hpp"

#include <ATen/ops/from_blob.h>

#include <utility>

#include "lib/base/check.hpp"
#include "lib/base/random.hpp"
#include "lib/nn/tensor_ops.hpp"

namespace plumb {

namespace {

/// The random stream of the head's dropout, beyond those of the products of every layer.
constexpr uint64_t kHeadStream = uint64_t{1} << 48;

/// One gather and one reduce-scatter per micro-batch. Gradients are float32.
BufferPlan plan_adapter_buffers(const ShardLayout& unit, const EngineOptions& options) {
  BufferPlan plan;
  plan.gather_buffer_bytes = unit.padded_elements() * static_cast<int64_t>(at::elementSize(options.dtype));
  plan.gradient_bytes = options.is_trained ? unit.padded_elements() * 4 : 0;
  plan.gathers = {{0, {0, plan.gather_buffer_bytes}}};
  plan.reduces = {{0, {0, plan.gradient_bytes}}};
  plan.num_forward_gathers = 1;
  return plan;
}

}  // namespace

AdaptedModel::AdaptedModel(const ModelConfig& config, const Adapter& adapter, std::vector<FrozenUnit> base,
                           const Communicator& comm, const EngineOptions& options, uint64_t dropout_seed,
                           const Placement& placement)
    : TrainableModel(config, comm, options, {ShardLayout(adapter_layout(config, adapter), comm.size())}),
      adapter_(adapter),
      dropout_seed_(dropout_seed),
      lowest_layer_(plumb::lowest_trained_layer(config, adapter)),
      base_(config, comm, options.dtype, std::move(base), lowest_layer_, placement),
      // on the same wires as the base: no two operations are under way at once, since passes begin with this gather
      exchange_(placement.make_exchange(
          comm, units(), plan_adapter_buffers(unit(), options),
          {options.dtype, options.accumulation_steps, options.reduction, /*keeps_converted=*/false})),
      squared_norms_(config.num_layers) {
  check(!options.is_trained || unit().unit().num_elements > 0, "an adapter has something to train");
}

void AdaptedModel::load_adapter(const std::function<void(ElementRange, std::span<float>)>& fill) {
  fill(unit().shard(comm().rank()), TrainableModel::parameter_shard(0));
}

void AdaptedModel::use_adapter(bool is_used) {
  check(is_used || adapter_.whole.empty(), "the base has every parameter");
  is_adapter_used_ = is_used;
}

at::Tensor AdaptedModel::whole(ParameterKind kind, const at::Tensor& flat) const {
  for (const Parameter& p : unit().unit().parameters)
    if (p.part == AdapterPart::kWhole && p.kind == kind)
      return flat.narrow(0, p.offset, p.num_elements()).view(p.shape);
  return {};
}

ParameterKind AdaptedModel::head_kind() const {
  if (config().head == HeadKind::kScore) return ParameterKind::kScore;
  return config().shares_head() ? ParameterKind::kEmbedding : ParameterKind::kHead;
}

Dropout AdaptedModel::dropout() const {
  return {adapter_.dropout, dropout_seed_,
          random_bits(dropout_seed_, static_cast<uint64_t>(num_updates_), static_cast<uint64_t>(pass_.batch_number))};
}

at::Tensor AdaptedModel::resident_adapter() {
  const int64_t num_elements = unit().padded_elements();
  const auto element_bytes = static_cast<int64_t>(at::elementSize(dtype()));
  if (!resident_adapter_) resident_adapter_ = std::make_unique<NodeMemory>(comm(), num_elements * element_bytes);
  const at::Tensor resident =
      at::from_blob(resident_adapter_->data(), {num_elements}, at::TensorOptions().dtype(dtype()));
  exchange_->start_gather(0, parameter_shard());
  const at::Tensor gathered = exchange_->finish_gather(0);
  const int64_t num_parts = comm().node_size(comm().node()), part = comm().local_index(comm().rank());
  const int64_t begin = num_elements * part / num_parts, end = num_elements * (part + 1) / num_parts;
  resident.narrow(0, begin, end - begin).copy_(gathered.narrow(0, begin, end - begin));
  exchange_->release_gather();
  comm().barrier();
  return resident;
}

ResidentUnits AdaptedModel::resident_units() {
  check(is_adapter_used_, "the adapter is used");
  base_.make_resident();
  const at::Tensor flat = resident_adapter();
  const auto contiguous = [](VocabularyAdapter adapter) {
    if (adapter.left_VR.defined()) adapter.left_VR = adapter.left_VR.contiguous();
    if (adapter.right_RD.defined()) adapter.right_RD = adapter.right_RD.contiguous();
    return adapter;
  };
  ResidentUnits::Parameters parameters;
  parameters.embedding_VD = embedding_of(base_.resident_bytes(0), flat);
  parameters.embedding_adapter =
      contiguous(vocabulary_adapter(adapter_, unit().unit(), ParameterKind::kEmbedding, flat));
  const auto num_layers = static_cast<int>(config().num_layers);
  for (int layer = 0; layer < num_layers; ++layer) {
    parameters.blocks.push_back(base_.block(layer + 1, base_.resident_bytes(layer + 1)));
    adapt(layer, flat, /*has_row_scales=*/true, parameters.blocks.back());
  }
  parameters.head = head_of(base_.resident_bytes(config().shares_head() ? 0 : num_layers + 1), flat);
  parameters.head.adapter = contiguous(parameters.head.adapter);
  return {config(), std::move(parameters)};
}

void AdaptedModel::begin_pass(const Pass& pass) {
  pass_ = pass;
  exchange_->start_gather(0, parameter_shard());
  adapter_flat_ = exchange_->finish_gather(0);
  next_operation_ = 0;
  base_.start(0);
}

void AdaptedModel::end_pass() {
  exchange_->release_gather();
  if (!pass_.is_training) return;
  exchange_->start_reduce(0, pass_.accumulation, shard(0).levels());
  exchange_->finish_reduce(0);
}

/// Returns the unit of the base whose gather is in progress, and starts the next gather if the pass needs one.
at::Tensor AdaptedModel::acquire() {
  at::Tensor bytes = base_.finish(next_operation_++);
  const auto num_forward = static_cast<int>(config().num_layers) + 2;
  if (pass_.is_training || next_operation_ < num_forward) base_.start(next_operation_);
  return bytes;
}

at::Tensor AdaptedModel::embedding_of(const at::Tensor& bytes, const at::Tensor& flat) const {
  const at::Tensor trained = whole(ParameterKind::kEmbedding, flat);
  return trained.defined() ? trained : base_.embedding_VD(bytes);
}

at::Tensor AdaptedModel::acquire_embedding() { return embedding_of(acquire(), adapter_flat_); }

VocabularyAdapter AdaptedModel::embedding_adapter() {
  if (!is_adapter_used_) return {};
  return vocabulary_adapter(adapter_, unit().unit(), ParameterKind::kEmbedding, adapter_flat_);
}

BlockParameters AdaptedModel::acquire_block(int64_t layer) {
  BlockParameters parameters = base_.block(static_cast<int>(layer) + 1, acquire());
  if (is_adapter_used_) adapt(layer, adapter_flat_, /*has_row_scales=*/false, parameters);
  return parameters;
}

void AdaptedModel::adapt(int64_t layer, const at::Tensor& flat, bool has_row_scales, BlockParameters& parameters) {
  PerProduct<LoraGroup> groups = lora_groups(config(), adapter_, unit().unit(), layer, flat);
  for (size_t product = 0; product < kNumProducts; ++product) {
    LoraGroup& group = groups[product];
    std::vector<at::Tensor>& norms = squared_norms_[layer][product];
    if (group.modules.empty()) continue;
    Linear& linear = parameters.linear_of(static_cast<Product>(product));
    if (adapter_.has_magnitudes && norms.empty()) {
      const at::Tensor weight = linear.weight();
      for (const LoraGroup::Module& module : group.modules)
        norms.push_back(ops_of(weight).squared_row_norms(weight.narrow(0, module.first_output, module.num_outputs)));
    }
    for (size_t i = 0; i < norms.size(); ++i) group.modules[i].squared_norms = norms[i];
    linear.lora = std::move(group);
    if (has_row_scales) set_row_scales(linear);
  }
  std::vector<ExpertLora> loras = expert_lora(config(), adapter_, unit().unit(), layer, flat);
  for (size_t e = 0; e < loras.size(); ++e) {
    parameters.experts->experts[e].gate_up.lora = std::move(loras[e].gate_up);
    parameters.experts->experts[e].down.lora = std::move(loras[e].down);
  }
}

HeadTensors AdaptedModel::head_of(const at::Tensor& bytes, const at::Tensor& flat) const {
  HeadTensors head = base_.head(config().shares_head() ? 0 : static_cast<int>(config().num_layers) + 1, bytes);
  if (const at::Tensor trained = whole(head_kind(), flat); trained.defined()) head.head_VD = trained;
  if (is_adapter_used_) head.adapter = vocabulary_adapter(adapter_, unit().unit(), head_kind(), flat);
  return head;
}

HeadTensors AdaptedModel::acquire_head() {
  HeadTensors head = head_of(acquire(), adapter_flat_);
  if (!is_adapter_used_) return head;
  if (pass_.has_dropout) {
    head.adapter.dropout = dropout();
    head.adapter.dropout.stream = random_bits(dropout_seed_, head.adapter.dropout.stream, kHeadStream);
  }
  return head;
}

HeadTensors AdaptedModel::head_gradients(int64_t) {
  gradient_flat_ = exchange_->gradient_buffer(0);
  return {{},
          whole(head_kind(), gradient_flat_),
          {},
          vocabulary_adapter(adapter_, unit().unit(), head_kind(), gradient_flat_)};
}

BlockGradients AdaptedModel::block_gradients(int64_t layer) {
  return {lora_groups(config(), adapter_, unit().unit(), layer, gradient_flat_),
          expert_lora(config(), adapter_, unit().unit(), layer, gradient_flat_),
          trains_embedding(adapter_) || layer > lowest_layer_};
}

at::Tensor AdaptedModel::embedding_gradient(std::span<const int64_t>) {
  at::Tensor gradient = whole(ParameterKind::kEmbedding, gradient_flat_);
  if (gradient.defined() && !config().shares_head()) gradient.zero_();  // else the head's is there
  return gradient;
}

VocabularyAdapter AdaptedModel::embedding_adapter_gradients() {
  VocabularyAdapter gradients = vocabulary_adapter(adapter_, unit().unit(), ParameterKind::kEmbedding, gradient_flat_);
  if (!config().shares_head()) zero(gradients);
  return gradients;
}

}  // namespace plumb
