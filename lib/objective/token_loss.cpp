#include "lib/objective/token_loss.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <optional>

#include "lib/base/check.hpp"
#include "lib/nn/head_product.hpp"
#include "lib/nn/logits.hpp"
#include "lib/nn/matmul.hpp"
#include "lib/nn/tensor_ops.hpp"

namespace plumb {

namespace {

// Size of a chunk of logits: with one thread per rank about a core's share of the caches; with several, larger products
// use the threads better.
constexpr int64_t kChunkBytes = 16 << 20, kChunkBytesOfThreads = 64 << 20;

int64_t chunk_rows(int64_t num_targets, int64_t vocab, int64_t element_bytes, int num_threads, at::Device device) {
  const int64_t chunk_bytes = num_threads > 1 ? kChunkBytesOfThreads : kChunkBytes;
  const int64_t most = std::max<int64_t>(16, chunk_bytes / (vocab * element_bytes));
  return ops_of(device).round_up_rows(std::min(num_targets, most), element_bytes);
}

/// The first rows of a buffer, which is reallocated if it is too small.
at::Tensor reuse(at::Tensor& buffer, int64_t rows, int64_t columns, const at::TensorOptions& options) {
  if (!buffer.defined() || buffer.size(1) != columns || buffer.size(0) < rows ||
      buffer.scalar_type() != options.dtype())
    buffer = at::empty({rows, columns}, options);
  return buffer.narrow(0, 0, rows);
}

/// Adds the gradient through the entropies of the rows, H = -sum p ln p: dH/dz = -p (ln p + H). Three more passes over
/// the logits; only few runs have a loss of entropies.
void add_entropy_gradient(const at::Tensor& dlogits, const at::Tensor& logits, std::span<const float> scales) {
  const int64_t rows = std::ssize(scales);
  const at::Tensor scale =
      at::from_blob(const_cast<float*>(scales.data()), {rows, 1}, at::TensorOptions().dtype(at::kFloat))
          .to(dlogits.device());
  const at::Tensor logps = at::log_softmax(logits.narrow(0, 0, rows).to(at::kFloat), 1), probabilities = logps.exp();
  const at::Tensor entropy = -(probabilities * logps).sum(1, true);
  dlogits.narrow(0, 0, rows).sub_(scale * probabilities * (logps + entropy));
}

/// The loss of the trained rows, through norm and head: forward once or twice, backward at most once.
class ChunkedLoss {
 public:
  ChunkedLoss(const at::Tensor& hidden_TD, const Targets& targets, const HeadTensors& parameters,
              const OutputConfig& output, TokenLoss kind, TokenLossScratch& scratch)
      : ops_(ops_of(hidden_TD)),
        targets_(targets),
        norm_{output.norm, parameters.norm_D, parameters.norm_bias_D},
        logit_config_(output.logits),
        kind_(kind),
        scratch_(scratch),
        num_targets_(std::ssize(targets.labels)),
        element_bytes_(static_cast<int64_t>(hidden_TD.element_size())),
        chunk_(chunk_rows(num_targets_, parameters.head_VD.size(0), element_bytes_, at::get_num_threads(),
                          hidden_TD.device())) {
    selected_ = take_rows(hidden_TD, targets.positions);
    stats_ = empty_norm_stats(selected_, norm_.config);
    // rows after the last target are zero, and so are their gradients
    normed_ = at::zeros({ops_.round_up_rows(num_targets_, element_bytes_), hidden_TD.size(1)}, hidden_TD.options());
    logits_ = reuse(scratch.logits, chunk_, parameters.head_VD.size(0), hidden_TD.options());
    ops_.normalize(selected_, norm_, normed_, stats_);
    head_.emplace(parameters, normed_);
  }

  void find_stats(std::vector<TokenStats>& stats) {
    for_each_chunk(nullptr, stats, [](const at::Tensor&, int64_t) {});
    holds_all_logits_ = num_targets_ <= chunk_;
  }

  /// Writes the gradients of norm and head and the rows of dhidden_TD. scales: one per target.
  void find_gradients(const TargetScales& scales, const HeadTensors& gradients, std::vector<TokenStats>& stats,
                      at::Tensor& dhidden_TD) {
    check(!gradients.adds || num_targets_ <= chunk_, "a gradient that is added to is one product");
    const at::Tensor dnormed = at::empty_like(normed_);
    for_each_chunk(&scales, stats, [&](const at::Tensor& dlogits, int64_t begin) {
      head_->backward(begin, dlogits, gradients, scratch_.head_gradient, dnormed);
    });
    head_->finish_backward(dnormed);
    const auto zeros = [&](at::Tensor target) { return gradients.adds ? at::zeros_like(target) : target.zero_(); };
    const at::Tensor dnorm =
        gradients.norm_D.defined() ? zeros(gradients.norm_D) : at::zeros({selected_.size(1)}, stats_.options());
    const at::Tensor dbias = gradients.norm_bias_D.defined() ? zeros(gradients.norm_bias_D) : at::Tensor();
    const at::Tensor dselected =
        ops_.norm_backward(dnormed.narrow(0, 0, num_targets_), {selected_, stats_}, norm_, {}, dnorm, dbias);
    if (gradients.adds && gradients.norm_D.defined()) at::Tensor(gradients.norm_D).add_(dnorm);
    if (gradients.adds && dbias.defined()) at::Tensor(gradients.norm_bias_D).add_(dbias);
    for (const Targets::SharedPosition& shared :
         targets_.shared_positions)  // put_rows writes this row several times, so all copies must hold the sum
      dselected.select(0, shared.first).add_(dselected.select(0, shared.second));
    for (const Targets::SharedPosition& shared : targets_.shared_positions)
      dselected.select(0, shared.second).copy_(dselected.select(0, shared.first));
    ops_.put_rows(dselected, targets_.positions, dhidden_TD);
  }

 private:
  /// Calls body(logits, first row) for each chunk; with `scales`, logits hold their gradients.
  template <class Body>
  void for_each_chunk(const TargetScales* scales, std::vector<TokenStats>& stats, Body body) {
    const std::span<const int64_t> labels = targets_.labels;
    for (int64_t begin = 0; begin < num_targets_; begin += chunk_) {
      const int64_t rows = std::min(chunk_, num_targets_ - begin);
      const int64_t padded_rows = ops_.round_up_rows(rows, element_bytes_);
      const at::Tensor part = logits_.narrow(0, 0, padded_rows);
      if (!holds_all_logits_) {
        head_->multiply(begin, logit_config_.scale, part);
        cap_logits(part, logit_config_);
      }
      const bool has_entropy_loss = scales && !scales->entropy.empty();
      const at::Tensor logits = has_entropy_loss || (scales && logit_config_.cap != 0) ? part.clone() : at::Tensor();
      ops_.cross_entropy(part, labels.subspan(begin, rows), kind_, scales ? scales->nll.data() + begin : nullptr,
                         stats.data() + begin);
      if (has_entropy_loss) add_entropy_gradient(part, logits, std::span(scales->entropy).subspan(begin, rows));
      if (scales) logits_backward(part, logits, logit_config_);
      if (scales && padded_rows > rows) part.narrow(0, rows, padded_rows - rows).zero_();
      body(part, begin);
    }
  }

  const TensorOps& ops_;
  const Targets& targets_;
  Norm norm_;
  LogitConfig logit_config_;
  TokenLoss kind_;
  TokenLossScratch& scratch_;
  int64_t num_targets_, element_bytes_, chunk_;
  at::Tensor selected_, stats_, normed_, logits_;
  std::optional<HeadProduct> head_;  // always set
  bool holds_all_logits_ = false;
};

/// The result if there are no targets: zero gradients.
TokenLossResult no_loss(const at::Tensor& hidden_TD, const HeadTensors* gradients) {
  TokenLossResult result;
  if (!gradients) return result;
  result.dhidden_TD = at::zeros_like(hidden_TD);
  zero(*gradients);
  return result;
}

}  // namespace

Targets find_targets(const MicroBatch& batch) {
  Targets targets;
  for (int64_t document = 0; document < batch.num_documents(); ++document) {
    const int64_t prefix = batch.prefix_of(document), length = batch.document_tokens(document);
    for (int64_t position = std::max<int64_t>(prefix, 1); position < length; ++position) {
      const int64_t token = batch.token_at(document, position);
      if (!batch.loss_mask[token]) continue;
      targets.positions.push_back(batch.token_at(document, position - 1));
      targets.labels.push_back(batch.token_ids[token]);
    }
    targets.document_begin.push_back(targets.labels.size());
    // a document of the same source has a target at the same position if it trains the token after the prefix
    const size_t first = targets.document_begin[document];
    if (prefix == 0 || first == targets.labels.size()) continue;
    const auto begin = targets.positions.begin();
    const auto end = begin + static_cast<std::ptrdiff_t>(first);
    const size_t first_of_source = targets.document_begin[batch.source_of(document)];
    const auto match = std::find(begin + static_cast<std::ptrdiff_t>(first_of_source), end, targets.positions[first]);
    if (match != end) targets.shared_positions.push_back({match - begin, static_cast<int64_t>(first)});
  }
  return targets;
}

std::vector<int64_t> sorted_unique(std::vector<int64_t> positions) {
  std::sort(positions.begin(), positions.end());
  positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
  return positions;
}

std::vector<int64_t> predicting_rows(const MicroBatch& batch) { return sorted_unique(find_targets(batch).positions); }

TokenLossResult token_loss(const at::Tensor& hidden_TD, const Targets& targets, const HeadTensors& parameters,
                           const OutputConfig& output, TokenLoss kind, double gradient_scale,
                           const HeadTensors& gradients, TokenLossScratch& scratch) {
  const bool has_gradients = gradient_scale != 0;
  if (targets.labels.empty()) return no_loss(hidden_TD, has_gradients ? &gradients : nullptr);
  TokenLossResult result;
  result.stats.resize(targets.labels.size());
  ChunkedLoss loss(hidden_TD, targets, parameters, output, kind, scratch);
  if (!has_gradients) {
    loss.find_stats(result.stats);
    return result;
  }
  result.dhidden_TD = at::zeros_like(hidden_TD);
  const TargetScales scales{std::vector<float>(result.stats.size(), static_cast<float>(gradient_scale))};
  loss.find_gradients(scales, gradients, result.stats, result.dhidden_TD);
  return result;
}

TokenLossResult scaled_token_loss(const at::Tensor& hidden_TD, const Targets& targets, const HeadTensors& parameters,
                                  const OutputConfig& output, const TargetScales& scales, const HeadTensors& gradients,
                                  TokenLossScratch& scratch) {
  if (targets.labels.empty()) return no_loss(hidden_TD, &gradients);
  TokenLossResult result;
  result.stats.resize(targets.labels.size());
  result.dhidden_TD = at::zeros_like(hidden_TD);
  ChunkedLoss(hidden_TD, targets, parameters, output, TokenLoss::kNll, scratch)
      .find_gradients(scales, gradients, result.stats, result.dhidden_TD);
  return result;
}

TokenLossResult token_loss_in_two_phases(const at::Tensor& hidden_TD, const Targets& targets,
                                         const HeadTensors& parameters, const OutputConfig& output,
                                         const FindScales& find_scales, const HeadTensors& gradients,
                                         TokenLossScratch& scratch) {
  if (targets.labels.empty()) return no_loss(hidden_TD, &gradients);
  TokenLossResult result;
  result.stats.resize(targets.labels.size());
  ChunkedLoss loss(hidden_TD, targets, parameters, output, TokenLoss::kNll, scratch);
  loss.find_stats(result.stats);
  const TargetScales scales = find_scales(result.stats);
  check(scales.nll.size() == result.stats.size(), "one gradient scale per target");
  check(scales.entropy.empty() || scales.entropy.size() == result.stats.size(),
        "one entropy scale per target, or none");
  result.dhidden_TD = at::zeros_like(hidden_TD);
  loss.find_gradients(scales, gradients, result.stats, result.dhidden_TD);
  return result;
}

bool is_one_product(const ModelConfig& config, int64_t num_tokens, int64_t element_bytes) {
  return element_bytes == 2 && has_pair_products() &&
         num_tokens <= chunk_rows(num_tokens, config.vocab_size, element_bytes, at::get_num_threads(), at::kCPU);
}

int64_t token_loss_bytes(const ModelConfig& config, int64_t num_tokens, int64_t element_bytes, int num_threads) {
  const int64_t hidden_size = config.hidden_size, vocab_size = config.vocab_size;
  const int64_t rows = num_tokens * hidden_size * element_bytes;
  // LibTorch's bfloat16 products also have a slice of the gradient, and a copy of the head that oneDNN packs
  const bool is_in_place = element_bytes == 4 || has_pair_products();
  const int64_t product = is_in_place ? 0 : (kHeadGradientSliceElements + vocab_size * hidden_size) * element_bytes;
  const int64_t chunk = chunk_rows(num_tokens, vocab_size, element_bytes, num_threads, at::kCPU) * vocab_size;
  // a cap needs the logits beside their gradients, and three float32 copies for a moment
  const int64_t logits = chunk * (config.logits.cap == 0 ? element_bytes : 2 * element_bytes + 3 * 4);
  // hidden and its gradient, selected, normed and their gradients; one chunk of logits
  return 6 * rows + logits + product;
}

}  // namespace plumb
