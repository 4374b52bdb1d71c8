// The language-modeling loss of trained tokens from the hidden states, chunk by chunk: only tokens that are trained
// reach the head, and no [tokens, vocab] tensor of more than one chunk ever exists. Losses are sums, never means: the
// weight of the global batch is known before, so gradients leave here already scaled. Source: Liger's fused linear
// cross-entropy, arXiv:2410.10989; Apple's cut cross-entropy, arXiv:2411.09009.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "lib/kernels/kernels.hpp"
#include "lib/model/batch.hpp"
#include "lib/nn/model_units.hpp"

namespace plumb {

/// The positions that predict a trained token, and that token; document by document.
struct Targets {
  std::vector<int64_t> positions;  // into the micro-batch's tokens
  std::vector<int64_t> labels;
  std::vector<size_t> document_begin = {0};  // the first target of each document, then the number of targets
  /// The last token of a shared prompt predicts the first of both answers: pairs of targets with the same position.
  struct Twins {
    int64_t first, second;
  };
  std::vector<Twins> twins = {};
};

/// The first token of a document is never predicted.
Targets find_targets(const MicroBatch& batch);

/// Sorted, each once: the rows that give several positions.
std::vector<int64_t> sorted_once(std::vector<int64_t> positions);

/// The rows that the loss looks at, sorted, each once: those of the targets' positions.
std::vector<int64_t> predicting_rows(const MicroBatch& batch);

struct TokenLossResult {
  std::vector<TokenStats> stats;  // one per target
  at::Tensor dhidden_TD;          // defined when gradients were asked for
};

/// The two large buffers of the loss, kept from one micro-batch to the next: fresh ones of this size would leave holes
/// in the heap and cost page faults.
struct TokenLossScratch {
  at::Tensor logits;
  at::Tensor head_gradient;  // of TensorOps::add_head_gradient
};

/// hidden_TD: output of the last block. gradient_scale: 1 / weight of the global batch, or 0 for no gradients;
/// otherwise the gradients of norm and head are written (head: float32 [V, D]; norm: float32 [D]) and dhidden is
/// returned.
TokenLossResult token_loss(const at::Tensor& hidden_TD, const Targets& targets, const HeadTensors& parameters,
                           double norm_epsilon, TokenLoss kind, double gradient_scale, const HeadTensors& gradients,
                           TokenLossScratch& scratch);

/// Given the stats of all targets: of each, the derivative of the step's loss with respect to the target's own loss,
/// its negative log-probability.
using FindScales = std::function<std::vector<float>(const std::vector<TokenStats>&)>;

/// The same where a target's gradient depends on the log-probabilities of others, as in a loss of whole answers: stats
/// of all targets first, then the gradients with a scale for each. Logits are made a second time, a chunk at a time,
/// unless one chunk holds them all. Gradients are written and returned as token_loss() does.
TokenLossResult token_loss_in_two_phases(const at::Tensor& hidden_TD, const Targets& targets,
                                         const HeadTensors& parameters, double norm_epsilon,
                                         const FindScales& find_scales, const HeadTensors& gradients,
                                         TokenLossScratch& scratch);

/// The most that token_loss() holds at once, in one phase or two, when all tokens are trained, on so many threads.
int64_t token_loss_bytes(int64_t num_tokens, int64_t hidden_size, int64_t vocab_size, int64_t element_bytes,
                         int num_threads);

}  // namespace plumb
