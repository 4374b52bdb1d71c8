#include "apps/commands/merge_probe.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <cmath>

#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/nn/block.hpp"
#include "lib/nn/tensor_kernels.hpp"
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

at::Tensor read_flat(const UnitLayout& unit, const ReadUnit& read) {
  const at::Tensor flat = at::empty({unit.num_elements}, at::TensorOptions().dtype(at::kFloat));
  read(unit, {flat.data_ptr<float>(), static_cast<size_t>(unit.num_elements)});
  return flat;
}

/// The view of a parameter in its unit; undefined if the unit has none.
at::Tensor view_of(const UnitLayout& unit, const at::Tensor& flat, ParameterKind kind) {
  for (const Parameter& parameter : unit.parameters)
    if (parameter.kind == kind) return flat.narrow(0, parameter.offset, parameter.num_elements()).view(parameter.shape);
  return {};
}

/// Log-probabilities of the next token [T, V], or rewards [documents].
at::Tensor outputs_of(const ModelConfig& config, const MicroBatch& batch, const ReadUnit& read) {
  const std::vector<UnitLayout> units = unit_layouts(config);
  at::Tensor flat = read_flat(units.front(), read);
  const at::Tensor ids = at::from_blob(const_cast<int64_t*>(batch.token_ids.data()), {batch.num_tokens()}, at::kLong);
  at::Tensor hidden_TD = at::index_select(view_of(units.front(), flat, ParameterKind::kEmbedding), 0, ids);
  const BlockContext context(config, {batch.document_begin, batch.prefix_length});
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const UnitLayout& unit = units[layer + 1];
    flat.reset();
    flat = read_flat(unit, read);
    BlockActivations kept;
    hidden_TD = block_forward(context, layer, block_tensors(unit, flat), hidden_TD, kept);
  }
  const UnitLayout& head = config.shares_head() ? units.front() : units.back();
  flat.reset();
  flat = read_flat(head, read);
  const at::Tensor norm_D = view_of(head, flat, ParameterKind::kFinalNorm);
  if (config.head == HeadKind::kScore) {
    std::vector<float> rewards =
        document_rewards(hidden_TD, batch, {norm_D, view_of(head, flat, ParameterKind::kScore)}, config.rms_norm_eps,
                         config.pad_token_id);
    return at::from_blob(rewards.data(), {std::ssize(rewards)}, at::kFloat).clone();
  }
  const at::Tensor normed_TD = at::empty_like(hidden_TD);
  const at::Tensor rstd_T = at::empty({hidden_TD.size(0)}, hidden_TD.options());
  activation_kernels<float>().rms_norm(data_of<float>(hidden_TD), nullptr, nullptr, data_of<float>(norm_D),
                                       data_of<float>(normed_TD), data_of<float>(rstd_T), hidden_TD.size(0),
                                       hidden_TD.size(1), static_cast<float>(config.rms_norm_eps));
  const at::Tensor head_VD =
      config.shares_head() ? view_of(head, flat, ParameterKind::kEmbedding) : view_of(head, flat, ParameterKind::kHead);
  return at::log_softmax(at::mm(normed_TD, head_VD.t()), 1);
}

}  // namespace

MicroBatch probe_batch(const std::string& model_directory, const ModelConfig& config, const Dataset* dataset) {
  MicroBatch batch;
  batch.document_begin = {0};
  if (dataset == nullptr) {
    const Tokenizer tokenizer = load_tokenizer(model_directory);
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
  if (batch.num_tokens() == 0) throw_error<DataError>("{}: expected texts to probe with, got none", model_directory);
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
