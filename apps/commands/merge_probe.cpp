#include "apps/commands/merge_probe.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>

#include "lib/base/check.hpp"
#include "lib/nn/block.hpp"
#include "lib/nn/logits.hpp"
#include "lib/nn/resident_units.hpp"
#include "lib/objective/reward.hpp"

namespace plumb {

namespace {

constexpr int64_t kProbeTokens = 512;     // in all
constexpr int64_t kDocumentTokens = 128;  // of one text, at most

constexpr const char* kProbeTexts[] = {
    "Once upon a time there was a little girl who lived at the edge of a forest. One day she found",
    "To make bread, mix flour, water, salt and yeast, and let the dough rest for an hour before",
    "Question: What is the capital of France?\nAnswer: The capital of France is",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n - 1) +",
    "The experiment was repeated 12 times; the mean was 3.7 with a standard deviation of 0.2, which shows",
    "Dear Sir or Madam, I am writing to ask whether the position that you advertised last week is still",
};

void append_document(std::vector<int32_t> ids, MicroBatch& batch) {
  const int64_t room = std::min(kDocumentTokens, kProbeTokens - batch.num_tokens());
  if (std::ssize(ids) > room) ids.resize(room);
  if (ids.empty()) return;
  batch.token_ids.insert(batch.token_ids.end(), ids.begin(), ids.end());
  batch.document_begin.push_back(batch.num_tokens());
  batch.row_ids.push_back(batch.num_documents() - 1);
  batch.loss_mask.resize(batch.token_ids.size());
}

/// The units of a model of which one at a time is in memory, in float32.
class StreamedUnits : public ModelUnits {
 public:
  StreamedUnits(const ModelConfig& config, const ReadUnit& read)
      : ModelUnits(config), layouts_(unit_layouts(config)), read_(read) {}

  at::Tensor acquire_embedding() override {
    return view_of(layouts_.front(), acquire(layouts_.front()), ParameterKind::kEmbedding);
  }
  BlockParameters acquire_block(int64_t layer) override {
    const UnitLayout& unit = layouts_[layer + 1];
    return block_tensors(unit, acquire(unit));
  }
  HeadTensors acquire_head() override {
    const UnitLayout& unit = config().shares_head() ? layouts_.front() : layouts_.back();
    return head_tensors(unit, acquire(unit));
  }
  void release() override { flat_.reset(); }

 private:
  const at::Tensor& acquire(const UnitLayout& unit) {
    flat_ = at::empty({unit.num_elements}, at::TensorOptions().dtype(at::kFloat));
    read_(unit, {flat_.data_ptr<float>(), static_cast<size_t>(unit.num_elements)});
    return flat_;
  }

  std::vector<UnitLayout> layouts_;
  const ReadUnit& read_;
  at::Tensor flat_;
};

/// Log-probabilities of the next token [T, V], or rewards [documents].
at::Tensor outputs_of(const ModelConfig& config, const MicroBatch& batch, const ReadUnit& read) {
  StreamedUnits units(config, read);
  const BlockContext context(config, units.rope(), {batch.document_begin, batch.prefix_length});
  const at::Tensor hidden_TD = walk_blocks(
      units, batch.token_ids, [&](int64_t layer, const BlockParameters& parameters, const at::Tensor& x_TD) {
        BlockActivations activations;
        return block_forward(context, layer, parameters, x_TD, activations);
      });
  const HeadTensors head = units.acquire_head();
  if (config.head == HeadKind::kScore) {
    const std::vector<float> rewards = document_rewards(hidden_TD, batch, head, config.output(), config.pad_token_id);
    return at::tensor(rewards);
  }
  const at::Tensor normed_TD = normalize(hidden_TD, {config.norm, head.norm_D, head.norm_bias_D}).y;
  const at::Tensor logits_TV = at::mm(normed_TD, head.head_VD.t()) * config.logits.scale;
  cap_logits(logits_TV, config.logits);
  return at::log_softmax(logits_TV, 1);
}

}  // namespace

MicroBatch probe_batch(const TokenizerSource& source, const ModelConfig& config, const Dataset* dataset) {
  MicroBatch batch;
  batch.document_begin = {0};
  if (dataset == nullptr) {
    const Tokenizer tokenizer = load_tokenizer(source);
    for (const char* text : kProbeTexts) {
      std::vector<int32_t> ids = tokenizer.encode(text);
      std::erase_if(ids, [&](int32_t id) { return id < 0 || id >= config.vocab_size; });
      append_document(std::move(ids), batch);
    }
  } else {
    for (int64_t example = 0; example < dataset->num_examples() && batch.num_tokens() < kProbeTokens; ++example) {
      const TokenRows rows = dataset->examples(example, example + 1);
      for (size_t document = 0; document + 1 < rows.offsets.size(); ++document)
        append_document(
            {rows.tokens.begin() + rows.offsets[document], rows.tokens.begin() + rows.offsets[document + 1]}, batch);
    }
  }
  if (batch.num_tokens() == 0) throw_error<DataError>("{}: expected texts to probe with, got none", source.model);
  return batch;
}

ProbeResult compare_models(const ModelConfig& config, const MicroBatch& batch, const ReadUnit& first,
                           const ReadUnit& second) {
  const at::NoGradGuard no_gradients;
  const at::Tensor p = outputs_of(config, batch, first), q = outputs_of(config, batch, second);
  ProbeResult result;
  result.num_tokens = batch.num_tokens();
  if (config.head == HeadKind::kScore) {
    result.max_reward_difference = (p - q).abs().max().item<double>();
    return result;
  }
  int64_t num_same = 0;
  for (int64_t row = 0; row < p.size(0); ++row) {
    const float *a = p.data_ptr<float>() + row * p.size(1), *b = q.data_ptr<float>() + row * p.size(1);
    double kl = 0;
    for (int64_t i = 0; i < p.size(1); ++i) {
      const double log_p = a[i], log_q = b[i];
      // with this term, which adds up to 0, no part is negative, and none of a sum that is tiny is lost in rounding
      kl += std::exp(log_p) * (log_p - log_q) + std::exp(log_q) - std::exp(log_p);
    }
    result.mean_kl += kl / static_cast<double>(p.size(0));
    result.max_kl = std::max(result.max_kl, kl);
    num_same += std::max_element(a, a + p.size(1)) - a == std::max_element(b, b + p.size(1)) - b ? 1 : 0;
  }
  result.same_best = static_cast<double>(num_same) / static_cast<double>(p.size(0));
  return result;
}

}  // namespace plumb
