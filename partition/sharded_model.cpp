#include "partition/sharded_model.hpp"

#include <ATen/ops/from_blob.h>

#include <utility>

#include "lib/nn/resident_units.hpp"

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
                           const MakeExchange& make_exchange)
    : TrainableModel(config, comm, options, shard_layouts(config, comm.size())),
      exchange_(make_exchange(comm, units(), plan_model_buffers(config, comm, options, units()),
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

/// The buffer for the next gradient or, if it is reduced in place, the accumulator itself.
at::Tensor ShardedModel::next_gradient() {
  if (!exchange_->is_reduced_in_place(next_reduce_)) return exchange_->gradient_buffer(next_reduce_);
  const int unit = exchange_->plan().reduces[next_reduce_].unit;
  return at::from_blob(shard(unit).gradients().data(), {units()[unit].padded_elements()},
                       at::TensorOptions().dtype(at::kFloat));
}

HeadTensors ShardedModel::head_gradients() {
  if (!config().shares_head()) return head_tensors(head_unit(), exchange_->gradient_buffer(next_reduce_));
  tied_gradient_ = exchange_->gradient_buffer(static_cast<int>(exchange_->plan().reduces.size()) - 1);
  head_waits_for_embedding_ = true;
  return head_tensors(head_unit(), tied_gradient_);
}

BlockGradients ShardedModel::block_gradients(int64_t layer) {
  return {block_tensors(units()[unit_of_block(layer)].unit(), next_gradient()), adds_in_place()};
}

at::Tensor ShardedModel::embedding_gradient() {
  at::Tensor flat = tied_gradient_.defined() ? tied_gradient_ : next_gradient();
  if (!tied_gradient_.defined() && !adds_in_place()) flat.zero_();
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
