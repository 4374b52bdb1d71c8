// The language-modeling loss of trained tokens from the hidden states, computed in chunks: only trained tokens reach
// the head, and no [tokens, vocab] tensor larger than one chunk exists. Losses are sums, never means; the weight of the
// global batch is known in advance, so gradients are already scaled.
// Source: Liger's fused linear cross-entropy, arXiv:2410.10989; Apple's cut cross-entropy, arXiv:2411.09009.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "lib/kernels/kernels.hpp"
#include "lib/model/batch.hpp"
#include "lib/nn/model_units.hpp"

namespace plumb {

/// The trained tokens and the positions that predict them, document by document.
struct Targets {
  std::vector<int64_t> positions;  // indices of tokens in the micro-batch
  std::vector<int64_t> labels;
  std::vector<size_t> document_begin = {0};  // the first target of each document, then the number of targets
  /// A target and the first one with the same position: the last token of a shared prompt predicts the first token of
  /// each answer.
  struct SharedPosition {
    int64_t first, second;
  };
  std::vector<SharedPosition> shared_positions = {};
};

/// The targets of a micro-batch. The first token of a document is never one.
Targets find_targets(const MicroBatch& batch);

/// The distinct values of `positions`, ascending.
std::vector<int64_t> sorted_unique(std::vector<int64_t> positions);

/// The rows of hidden_TD that the loss reads: the positions of all targets, sorted and unique.
std::vector<int64_t> predicting_rows(const MicroBatch& batch);

struct TokenLossResult {
  std::vector<TokenStats> stats;  // one per target
  at::Tensor dhidden_TD;          // undefined without gradients
};

/// The two large buffers of the loss, reused between micro-batches: allocating them each time fragments the heap and
/// causes page faults.
struct TokenLossScratch {
  at::Tensor logits;
  at::Tensor head_gradient;  // scratch of TensorOps::add_head_gradient
};

/// Computes the loss of all targets. hidden_TD: output of the last block. gradient_scale: 1 / weight of the global
/// batch, or 0 for no gradients; otherwise the gradients of norm (float32 [D]) and head (float32 [V, D]) are
/// overwritten and dhidden_TD is returned.
TokenLossResult token_loss(const at::Tensor& hidden_TD, const Targets& targets, const HeadTensors& parameters,
                           const OutputConfig& output, TokenLoss kind, double gradient_scale,
                           const HeadTensors& gradients, TokenLossScratch& scratch);

/// For each target, the derivatives of the step's loss with respect to its negative log-probability and to its entropy.
struct TargetScales {
  std::vector<float> nll;
  std::vector<float> entropy = {};  // empty: the loss does not depend on entropies
};
/// Like token_loss() of log-probabilities, with scales that are known before.
TokenLossResult scaled_token_loss(const at::Tensor& hidden_TD, const Targets& targets, const HeadTensors& parameters,
                                  const OutputConfig& output, const TargetScales& scales, const HeadTensors& gradients,
                                  TokenLossScratch& scratch);

/// Computes the scales from the stats of all targets.
using FindScales = std::function<TargetScales(const std::vector<TokenStats>&)>;

/// Like token_loss(), for losses in which a target's gradient depends on the log-probabilities of others, such as
/// losses of whole answers: first computes the stats of all targets, then the gradients with a scale per target. Logits
/// are computed a second time, chunk by chunk, unless one chunk holds them all.
TokenLossResult token_loss_in_two_phases(const at::Tensor& hidden_TD, const Targets& targets,
                                         const HeadTensors& parameters, const OutputConfig& output,
                                         const FindScales& find_scales, const HeadTensors& gradients,
                                         TokenLossScratch& scratch);

/// Whether the head's gradient of so many tokens is a single product that may be added to another one with the bits of
/// their sum.
bool is_one_product(const ModelConfig& config, int64_t num_tokens, int64_t element_bytes);

/// Peak memory of token_loss(), in one phase or two, in bytes, if all tokens are trained on num_threads threads.
int64_t token_loss_bytes(const ModelConfig& config, int64_t num_tokens, int64_t element_bytes, int num_threads);

}  // namespace plumb
