#include "partition/sharded_model.hpp"

#include <ATen/ops/from_blob.h>

#include <utility>

#include "lib/nn/resident_units.hpp"
#include "lib/objective/token_loss.hpp"

namespace plumb {

namespace {

BufferPlan plan_model_buffers(const ModelConfig& config, const Communicator& comm, const EngineOptions& options,
                              const std::vector<ShardLayout>& units) {
  return plan_buffers(units, config.shares_head(), static_cast<int64_t>(at::elementSize(options.dtype)),
                      in_place(comm.size(), options.accumulation_steps, options.reduction));
}

}  // namespace

std::vector<ShardLayout> shard_layouts(const ModelConfig& config, int num_ranks) {
  std::vector<ShardLayout> layouts;
  for (UnitLayout& unit : unit_layouts(config)) layouts.emplace_back(std::move(unit), num_ranks);
  return layouts;
}

ShardedModel::ShardedModel(const ModelConfig& config, const Communicator& comm, const EngineOptions& options,
                           const Placement& placement)
    : TrainableModel(config, comm, options, shard_layouts(config, comm.size())),
      exchange_(placement.make_exchange(comm, units(), plan_model_buffers(config, comm, options, units()),
                                        {options.dtype, options.accumulation_steps, options.reduction,
                                         /*keeps_converted=*/comm.size() == 1})) {}

void ShardedModel::load(const std::function<void(int, ElementRange, std::span<float>)>& fill) {
  for (int unit = 0; unit < std::ssize(units()); ++unit)
    fill(unit, units()[unit].shard(comm().rank()), parameter_shard(unit));
  exchange_->forget_converted();
}

void ShardedModel::gather_units(const std::function<void(int, const at::Tensor&)>& use) {
  begin_pass(Pass::evaluation());
  for (int gather = 0; gather < exchange_->plan().num_forward_gathers; ++gather) {
    use(exchange_->plan().gathers[gather].unit, acquire());
    release();
  }
  end_pass();
}

void ShardedModel::begin_pass(const Pass& pass) {
  pass_ = pass;
  next_gather_ = next_reduce_ = 0;
  prefetch();
}

void ShardedModel::end_pass() {
  if (next_reduce_ > 0) exchange_->finish_reduce(next_reduce_ - 1);
  tied_gradient_.reset();
}

void ShardedModel::prefetch() {
  const BufferPlan& plan = exchange_->plan();
  const int num_gathers = pass_.is_training ? static_cast<int>(plan.gathers.size()) : plan.num_forward_gathers;
  if (next_gather_ < num_gathers)
    exchange_->start_gather(next_gather_, parameter_shard(plan.gathers[next_gather_].unit));
}

/// Returns the unit whose gather is in progress, and starts the next gather.
at::Tensor ShardedModel::acquire() {
  at::Tensor flat = exchange_->finish_gather(next_gather_++);
  prefetch();
  return flat;
}

at::Tensor ShardedModel::acquire_embedding() {
  return acquire().narrow(0, 0, config().vocab_size * config().hidden_size).view({config().vocab_size, -1});
}

BlockParameters ShardedModel::acquire_block(int64_t layer) {
  return block_tensors(units()[unit_of_block(layer)].unit(), acquire());
}

HeadTensors ShardedModel::acquire_head() { return head_tensors(head_unit(), acquire()); }

ShardedModel::Destination ShardedModel::destination(int reduce, bool may_add) {
  const int unit = exchange_->plan().reduces[reduce].unit;
  const std::span<float* const> levels = shard(unit).levels();
  const auto level = [&](size_t i) {
    return at::from_blob(levels[i], {units()[unit].padded_elements()}, at::TensorOptions().dtype(at::kFloat));
  };
  if (exchange_->is_reduced_in_place(reduce)) return {level(0), pass_.accumulation > 0};
  const auto written = exchange_->gradient_in_level(reduce, pass_.accumulation, levels.size(), may_add);
  if (written) return {level(written->level), written->adds};
  return {exchange_->gradient_buffer(reduce), false};
}

HeadTensors ShardedModel::head_gradients(int64_t num_tokens) {
  const auto element_bytes = static_cast<int64_t>(at::elementSize(dtype()));
  if (!config().shares_head()) {
    const bool may_add = config().head != HeadKind::kScore && is_one_product(config(), num_tokens, element_bytes);
    const Destination head = destination(next_reduce_, may_add);
    HeadTensors gradients = head_tensors(head_unit(), head.flat);
    gradients.adds = head.adds;
    return gradients;
  }
  tied_gradient_ = destination(static_cast<int>(exchange_->plan().reduces.size()) - 1, false).flat;
  head_waits_for_embedding_ = true;
  return head_tensors(head_unit(), tied_gradient_);
}

BlockGradients ShardedModel::block_gradients(int64_t layer) {
  const Destination block = destination(next_reduce_, false);
  return {block_tensors(units()[unit_of_block(layer)].unit(), block.flat), block.adds};
}

at::Tensor ShardedModel::embedding_gradient(std::span<const int64_t> token_ids) {
  at::Tensor flat = tied_gradient_;
  if (!flat.defined() && !exchange_->is_reduced_in_place(next_reduce_)) {
    flat = exchange_->gradient_rows(next_reduce_, token_ids);
  } else if (!flat.defined()) {
    const Destination embedding = destination(next_reduce_, false);
    flat = embedding.flat;
    if (!embedding.adds) flat.zero_();
  }
  return flat.narrow(0, 0, config().vocab_size * config().hidden_size).view({config().vocab_size, -1});
}

void ShardedModel::reduce() {
  if (std::exchange(head_waits_for_embedding_, false)) return;
  const std::span<float* const> levels = shard(exchange_->plan().reduces[next_reduce_].unit).levels();
  exchange_->start_reduce(next_reduce_, pass_.accumulation, levels);
  if (next_reduce_ > 0) exchange_->finish_reduce(next_reduce_ - 1);
  ++next_reduce_;
}

}  // namespace plumb
