#include "partition/sharded_model.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "lib/base/check.hpp"
#include "lib/base/exact_sum.hpp"
#include "partition/padded_rows.hpp"

namespace plumb {

std::vector<ShardLayout> shard_layouts(const ModelConfig& config, int num_ranks) {
  std::vector<ShardLayout> layouts;
  for (UnitLayout& unit : unit_layouts(config)) layouts.emplace_back(std::move(unit), num_ranks);
  return layouts;
}

ShardedModel::ShardedModel(const ModelConfig& config, const Communicator& comm, const EngineOptions& options)
    : config_(config),
      comm_(comm),
      options_(options),
      units_(shard_layouts(config, comm.size())),
      exchange_(comm, units_,
                plan_buffers(units_, config.shares_head(), options.dtype == at::kFloat ? 4 : 2,
                             in_place(comm.size(), options.accumulation_steps, options.reduction)),
                options.dtype, options.accumulation_steps, options.reduction, /*keeps_converted=*/comm.size() == 1) {
  const int64_t num_levels = max_open_subtrees(comm.size(), options.accumulation_steps, options.reduction);
  const auto new_span = [this](int64_t elements) {
    memory_.push_back(at::zeros({elements}, at::TensorOptions().dtype(at::kFloat)));
    return std::span(memory_.back().data_ptr<float>(), elements);
  };
  for (const ShardLayout& layout : units_) {
    UnitShard& shard = shards_.emplace_back();
    shard.parameters = new_span(layout.shard_elements());
    shard.moments = new_moments(layout, options);
    for (int64_t level = 0; level < num_levels; ++level) {
      const std::span<float> memory = new_span(layout.shard_elements());
      if (level == 0) shard.gradients = memory;
      shard.levels.push_back(memory.data());
    }
  }
}

void ShardedModel::load(const std::function<void(int, ElementRange, std::span<float>)>& fill) {
  for (size_t unit = 0; unit < units_.size(); ++unit)
    fill(static_cast<int>(unit), units_[unit].shard(comm_.rank()), shards_[unit].parameters);
  exchange_.forget_converted();
}

void ShardedModel::prefetch(int operation) {
  if (operation < std::ssize(exchange_.plan().gathers))
    exchange_.start_gather(operation, shards_[exchange_.plan().gathers[operation].unit].parameters);
}

HeadTensors ShardedModel::head_tensors(const at::Tensor& flat) const {
  const UnitLayout& unit = (config_.shares_head() ? units_.front() : units_.back()).unit();
  HeadTensors head;
  for (const Parameter& p : unit.parameters) {
    const at::Tensor view = flat.narrow(0, p.offset, p.num_elements()).view(p.shape);
    (p.kind == ParameterKind::kFinalNorm ? head.norm_D : head.head_VD) = view;
  }
  return head;
}

/// Embedding and blocks. Operation u of the plan gathers unit u; the head's gather is under way on return.
at::Tensor ShardedModel::run_forward(const BlockContext& context, const std::vector<int64_t>& token_ids,
                                     std::vector<at::Tensor>* inputs, std::vector<BlockActivations>* kept) {
  const at::Tensor ids = at::from_blob(const_cast<int64_t*>(token_ids.data()), {std::ssize(token_ids)},
                                       at::TensorOptions().dtype(at::kLong));
  prefetch(0);
  const at::Tensor embedding = exchange_.finish_gather(0)
                                   .narrow(0, 0, config_.vocab_size * config_.hidden_size)
                                   .view({config_.vocab_size, config_.hidden_size});
  prefetch(1);
  at::Tensor x_TD = at::index_select(embedding, 0, ids);
  exchange_.release_gather();
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    const int unit = static_cast<int>(layer) + 1;
    const BlockTensors parameters = block_tensors(units_[unit].unit(), exchange_.finish_gather(unit));
    prefetch(unit + 1);
    BlockActivations block_kept;
    if (inputs) inputs->push_back(x_TD);
    x_TD = block_forward(context, layer, parameters, x_TD, block_kept);
    if (kept) kept->push_back(std::move(block_kept));
    exchange_.release_gather();
  }
  return x_TD;
}

/// Where a unit's gradient is to be written or, in place, added.
at::Tensor ShardedModel::gradient_target(int reduce) {
  if (!exchange_.is_reduced_in_place(reduce)) return exchange_.gradient_buffer(reduce);
  const auto unit = static_cast<size_t>(exchange_.plan().reduces[reduce].unit);
  return at::from_blob(shards_[unit].gradients.data(), {units_[unit].padded_elements()},
                       at::TensorOptions().dtype(at::kFloat));
}

void ShardedModel::finish_reduce(int reduce, int64_t accumulation) {
  const int unit = exchange_.plan().reduces[reduce].unit;
  exchange_.finish_reduce(reduce, accumulation, shards_[unit].levels);
}

void ShardedModel::accumulate(const MicroBatch& batch, int64_t accumulation, const ReadRows& read_rows,
                              const HeadPass& head_pass) {
  const PaddedRows rows(batch, options_.dtype);
  const BlockContext context(config_, {rows.document_begin, rows.prefix_length},
                             rows_to_compute(read_rows, std::ssize(rows.token_ids), options_.dtype));
  std::vector<at::Tensor> inputs;
  std::vector<BlockActivations> kept;
  const bool keeps_blocks = !options_.has_gradient_checkpointing;
  at::Tensor hidden_TD =
      run_forward(context, rows.token_ids, keeps_blocks ? nullptr : &inputs, keeps_blocks ? &kept : nullptr);

  // head: its gather is operation num_layers + 1, its gradient the first to be reduced, unless tied
  const int head_gather = static_cast<int>(config_.num_layers) + 1;
  const int last_reduce = static_cast<int>(exchange_.plan().reduces.size()) - 1;
  int reduce = config_.shares_head() ? -1 : 0;  // the one started last
  const HeadTensors head = head_tensors(exchange_.finish_gather(head_gather));
  prefetch(head_gather + 1);
  const at::Tensor head_gradient = exchange_.gradient_buffer(config_.shares_head() ? last_reduce : 0);
  const HeadTensors head_gradients = head_tensors(head_gradient);
  at::Tensor gradient_TD = pad_gradient(head_pass(hidden_TD.narrow(0, 0, batch.num_tokens()), head, &head_gradients),
                                        std::ssize(rows.token_ids));
  hidden_TD.reset();
  exchange_.release_gather();
  if (reduce == 0) exchange_.start_reduce(0);

  for (int64_t layer = config_.num_layers - 1; layer >= 0; --layer) {
    const int operation = head_gather + static_cast<int>(config_.num_layers - layer);
    const UnitLayout& unit = units_[layer + 1].unit();
    const BlockTensors parameters = block_tensors(unit, exchange_.finish_gather(operation));
    prefetch(operation + 1);
    BlockActivations block_kept;
    if (keeps_blocks) {
      block_kept = std::move(kept[layer]);
    } else {
      block_recompute(context, layer, parameters, inputs[layer], block_kept);
      inputs[layer].reset();
    }
    const BlockTensors gradients = block_tensors(unit, gradient_target(reduce + 1));
    const bool adds = exchange_.is_reduced_in_place(reduce + 1) && accumulation > 0;
    gradient_TD = block_backward(context, layer, parameters, block_kept, gradient_TD, {gradients, adds});
    exchange_.release_gather();
    exchange_.start_reduce(reduce + 1);
    if (reduce >= 0) finish_reduce(reduce, accumulation);
    ++reduce;
  }

  // the embedding's gradient: rows of the tokens that were there; on top of the head's when tied
  const at::Tensor embedding_gradient = config_.shares_head() ? head_gradient : gradient_target(last_reduce);
  const bool adds_embedding = exchange_.is_reduced_in_place(last_reduce) && accumulation > 0;
  if (!config_.shares_head() && !adds_embedding) embedding_gradient.zero_();
  add_embedding_gradient(gradient_TD, batch.token_ids, batch.num_tokens(), embedding_gradient);
  exchange_.start_reduce(last_reduce);
  if (reduce >= 0) finish_reduce(reduce, accumulation);
  finish_reduce(last_reduce, accumulation);
}

void ShardedModel::evaluate(const MicroBatch& batch, const ReadRows& read_rows, const HeadPass& head_pass) {
  const PaddedRows rows(batch, options_.dtype);
  const BlockContext context(config_, {rows.document_begin, rows.prefix_length},
                             rows_to_compute(read_rows, std::ssize(rows.token_ids), options_.dtype));
  const at::Tensor hidden_TD = run_forward(context, rows.token_ids, nullptr, nullptr);
  head_pass(hidden_TD.narrow(0, 0, batch.num_tokens()),
            head_tensors(exchange_.finish_gather(static_cast<int>(config_.num_layers) + 1)), nullptr);
  exchange_.release_gather();
}

double ShardedModel::gradient_norm() const {
  ExactSum squares;
  for (const UnitShard& shard : shards_)
    for (size_t begin = 0; begin < shard.gradients.size(); begin += kShardAlignment)  // chunks that no rank count moves
      squares.add(float_kernels().sum_of_squares(shard.gradients.data() + begin, kShardAlignment));
  comm_.sum(squares);
  return std::sqrt(squares.value());
}

std::vector<TrainedShard> ShardedModel::trained_shards() {
  std::vector<TrainedShard> shards;
  for (size_t unit = 0; unit < units_.size(); ++unit)
    shards.push_back({&units_[unit], shards_[unit].parameters, &shards_[unit].moments});
  return shards;
}

void ShardedModel::update(const AdamWOptions& options, double learning_rate, int64_t step, double gradient_scale) {
  for (size_t unit = 0; unit < units_.size(); ++unit) {
    UnitShard& shard = shards_[unit];
    shard.moments.update(shard.parameters, shard.gradients, units_[unit].decay_runs(comm_.rank()),
                         adamw_step(options, learning_rate, step, gradient_scale));
  }
  exchange_.forget_converted();
}

}  // namespace plumb
