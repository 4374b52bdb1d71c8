#include "lib/nn/forward_pass.hpp"

#include <utility>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

/// To where kernels read it; the tables are computed on the host, so that every device rotates by the same bits.
void move_to(at::Device device, Rotation& rotation) {
  for (at::Tensor* const part : {&rotation.cos, &rotation.sin, &rotation.positions})
    if (part->defined()) *part = part->to(device);
}

}  // namespace

ForwardPass::ForwardPass(TrainedUnits& units, const MicroBatch& batch, const ReadRows& read_rows, Pass pass,
                         bool has_gradient_checkpointing)
    : units_(units),
      pass_(pass),
      num_tokens_(batch.num_tokens()),
      rows_(batch, units.dtype(), units.device()),
      context_(units.config(), units.rope(), {rows_.document_begin, rows_.prefix_length},
               rows_to_compute(read_rows, std::ssize(rows_.token_ids), units.dtype(), units.device())),
      has_gradient_checkpointing_(has_gradient_checkpointing) {
  pass_.batch_number = batch.number;
  move_to(units.device(), context_.rotations.full);
  move_to(units.device(), context_.rotations.sliding);
  units_.begin_pass(pass_);
  context_.num_tokens = batch.is_empty() ? 0 : num_tokens_;  // the token of an empty batch is none of the data
  if (pass_.has_dropout) context_.dropout = units_.dropout();
  const int64_t lowest_layer = pass_.is_training ? units_.lowest_trained_layer() : units_.config().num_layers;
  const at::Tensor hidden_TD =
      walk_blocks(units_, rows_.token_ids, [&](int64_t layer, const BlockParameters& parameters, const at::Tensor& x) {
        BlockActivations activations;
        const bool is_trained = layer >= lowest_layer;
        if (is_trained && has_gradient_checkpointing_) inputs_.push_back(x);
        at::Tensor y = block_forward(context_, layer, parameters, x, activations);
        if (parameters.experts) router_loads_.push_back(router_load(activations.experts.routing));
        if (is_trained && !has_gradient_checkpointing_) activations_.push_back(std::move(activations));
        return y;
      });
  hidden_TD_ = hidden_TD.narrow(0, 0, num_tokens_);
  head_ = units_.acquire_head();
  if (pass_.is_training) head_gradients_ = units_.head_gradients(num_tokens_);
}

void ForwardPass::backward(at::Tensor gradient_TD, std::span<const double> router_gradient_E) {
  check(pass_.is_training, "an evaluation has no backward pass");
  context_.router_gradient_E.assign(router_gradient_E.begin(), router_gradient_E.end());
  gradient_TD = pad_gradient(gradient_TD, std::ssize(rows_.token_ids));
  hidden_TD_.reset();
  head_ = head_gradients_ = {};
  units_.release();
  units_.reduce();
  for (int64_t layer = units_.config().num_layers - 1; layer >= units_.lowest_trained_layer(); --layer)
    gradient_TD = backward_block(layer, gradient_TD);
  backward_embedding(gradient_TD);
  units_.end_pass();
}

void ForwardPass::backward_embedding(at::Tensor gradient_TD) {
  const std::span tokens = std::span(rows_.token_ids).first(num_tokens_);
  const at::Tensor of_embedding = units_.embedding_gradient(tokens);
  const VocabularyAdapter of_adapter = units_.embedding_adapter_gradients();
  if (!of_embedding.defined() && of_adapter.is_empty()) return;
  gradient_TD = gradient_TD.narrow(0, 0, num_tokens_);
  if (const double scale = units_.config().embedding_multiplier; scale != 1) gradient_TD.mul_(scale);
  const int64_t frozen_token = units_.config().frozen_input_token;
  if (of_embedding.defined()) ops_of(gradient_TD).add_rows_by_token(gradient_TD, tokens, frozen_token, of_embedding);
  add_lookup_gradients(units_.embedding_adapter(), gradient_TD, tokens, frozen_token, of_adapter);
  units_.reduce();
}

at::Tensor ForwardPass::backward_block(int64_t layer, const at::Tensor& gradient_TD) {
  const BlockParameters parameters = units_.acquire_block(layer);
  const int64_t index = layer - units_.lowest_trained_layer();
  BlockActivations activations;
  if (has_gradient_checkpointing_) {
    block_recompute(context_, layer, parameters, std::exchange(inputs_[index], {}), activations);
  } else {
    activations = std::move(activations_[index]);
  }
  at::Tensor input_gradient_TD =
      block_backward(context_, layer, parameters, activations, gradient_TD, units_.block_gradients(layer));
  units_.release();
  units_.reduce();
  return input_gradient_TD;
}

void ForwardPass::finish() {
  check(!pass_.is_training, "a training pass ends with its backward pass");
  hidden_TD_.reset();
  head_ = {};
  units_.release();
  units_.end_pass();
}

}  // namespace plumb
