#include "lib/nn/decode.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>

#include <algorithm>

#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/random.hpp"
#include "lib/nn/logits.hpp"
#include "lib/nn/tensor_ops.hpp"
#include "lib/nn/tiled_attention.hpp"

namespace plumb {

namespace {

constexpr int64_t kFirstCapacity = 64;  // tokens; the capacity doubles when exceeded

at::Tensor project(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {}) {
  return bias.defined() ? at::addmm(bias, x, weight.t()) : at::mm(x, weight.t());
}

}  // namespace

Decoder::Decoder(const ModelConfig& config, const std::vector<at::Tensor>& units) : units_(config, units) {
  check(config.head == HeadKind::kLanguageModel, "text comes from a language model");
}

void Decoder::check_ids(std::span<const int64_t> token_ids) const {
  for (const int64_t id : token_ids)
    if (id < 0 || id >= config().vocab_size)
      throw_error<DataError>("token id {}: expected one below the model's vocab_size {}", id, config().vocab_size);
}

at::Tensor Decoder::logits(const at::Tensor& hidden_BD) {
  const HeadTensors head = units_.acquire_head();
  const at::Tensor normed_BD = normalize(hidden_BD, {config().norm, head.norm_D, head.norm_bias_D}).y;
  const at::Tensor logits_BV = project(normed_BD, head.head_VD).to(at::kFloat);
  if (config().logits.scale != 1) logits_BV.mul_(config().logits.scale);
  cap_logits(logits_BV, config().logits);
  return logits_BV;
}

void Decoder::append(Sequence& sequence, int64_t layer, const at::Tensor& keys_values) const {
  Cache& cache = sequence.layers[layer];
  const int64_t num_needed = sequence.num_tokens + keys_values.size(0);
  const int64_t capacity = cache.defined() ? cache.size(0) : 0;
  if (num_needed > capacity) {
    Cache larger =
        at::empty({std::max({num_needed, 2 * capacity, kFirstCapacity}), keys_values.size(1)}, keys_values.options());
    if (capacity > 0) larger.narrow(0, 0, sequence.num_tokens).copy_(cache.narrow(0, 0, sequence.num_tokens));
    cache = std::move(larger);
  }
  cache.narrow(0, sequence.num_tokens, keys_values.size(0)).copy_(keys_values);
}

at::Tensor Decoder::start(std::span<const std::vector<int32_t>> prompts) {
  std::vector<int64_t> token_ids, document_begin{0}, last_tokens;
  for (const std::vector<int32_t>& prompt : prompts) {
    if (prompt.empty()) throw DataError("a prompt without tokens; a model needs at least one to continue");
    token_ids.insert(token_ids.end(), prompt.begin(), prompt.end());
    document_begin.push_back(std::ssize(token_ids));
    last_tokens.push_back(std::ssize(token_ids) - 1);
  }
  check_ids(token_ids);
  sequences_.clear();
  for (const std::vector<int32_t>& prompt : prompts)
    sequences_.push_back({0, prompt, std::vector<Cache>(config().num_layers)});
  const BlockContext context(config(), units_.rope(), {document_begin, {}});
  const int64_t query_columns = config().num_heads * config().head_dim;
  const at::Tensor hidden_TD =
      walk_blocks(units_, token_ids, [&](int64_t layer, const BlockParameters& parameters, const at::Tensor& x_TD) {
        BlockActivations activations;
        at::Tensor y_TD = block_forward(context, layer, parameters, x_TD, activations);
        for (size_t i = 0; i < sequences_.size(); ++i)
          append(sequences_[i], layer,
                 activations.qkv_TQ.slice(0, document_begin[i], document_begin[i + 1]).slice(1, query_columns));
        return y_TD;
      });
  for (Sequence& sequence : sequences_) sequence.num_tokens = std::ssize(sequence.tokens);
  return logits(at::index_select(hidden_TD, 0, as_tensor(last_tokens)));
}

/// Appends each row's keys and values to its sequence's cache, and attends to all of that sequence.
at::Tensor Decoder::attend(int64_t layer, const at::Tensor& qkv_BQ) {
  const int64_t h = config().num_heads, g = config().num_kv_heads, k = config().head_dim, q_columns = h * k;
  const int64_t window = config().sliding_window[layer];
  const at::Tensor out = at::empty({qkv_BQ.size(0), q_columns}, qkv_BQ.options());
  for (int64_t row = 0; row < qkv_BQ.size(0); ++row) {
    Sequence& sequence = sequences_[row];
    append(sequence, layer, qkv_BQ.narrow(0, row, 1).slice(1, q_columns));
    const int64_t num_tokens = sequence.num_tokens + 1;
    const int64_t first = window > 0 ? std::max<int64_t>(0, num_tokens - window) : 0;
    const Cache& cache = sequence.layers[layer];
    const auto heads = [&](int64_t begin) {  // [1, G, tokens, K]
      return cache.as_strided({1, g, num_tokens - first, k}, {0, k, cache.size(1), 1},
                              cache.storage_offset() + first * cache.size(1) + begin * k);
    };
    const at::Tensor query = qkv_BQ.narrow(0, row, 1).slice(1, 0, q_columns);
    if (const AttentionShape shape = attention_shape(config(), layer); shape.is_tiled()) {
      const at::Tensor seen = cache.narrow(0, first, num_tokens - first).to(at::kFloat);
      out[row].copy_(tiled_attention_step(shape, query.to(at::kFloat).contiguous(), seen));
      continue;
    }
    const auto [output, log_sum_exp] =
        at::_scaled_dot_product_flash_attention_for_cpu(query.view({1, h, 1, k}), heads(0), heads(g), 0.0, false,
                                                        std::nullopt, attention_shape(config(), layer).scale());
    out.narrow(0, row, 1).copy_(output.reshape({1, q_columns}));
  }
  return out;
}

at::Tensor Decoder::step_block(int64_t layer, const BlockParameters& p, const ModelRope::Rotations& rotations,
                               const at::Tensor& input_BD) {
  const ModelConfig& model = config();
  const TensorOps& ops = ops_of(input_BD);
  const auto has_norm = [&](BlockNorm which) { return p.norms[which].weight_D.defined(); };
  const auto normed = [&](BlockNorm which, const at::Tensor& x) {
    return has_norm(which) ? normalize(x, {model.norm, p.norms[which].weight_D, p.norms[which].bias_D}).y : x;
  };
  const auto scaled = [&](const at::Tensor& branch) {
    return model.residual_multiplier == 1 ? branch : branch * model.residual_multiplier;
  };
  const auto multiply = [&](Product product, const at::Tensor& x) {
    return project(x, p[product].weight_OI, p[product].bias_O);
  };
  const at::Tensor normed_BD = normed(BlockNorm::kBeforeAttention, input_BD);
  const at::Tensor qkv_BQ = multiply(Product::kQkv, normed_BD);
  if (model.qk_norm != QkNorm::kNone) {
    const HeadNorms norms = head_norms(model, p);
    ops.norm_heads(qkv_BQ, norms, qkv_BQ,
                   at::empty({qkv_BQ.size(0), norms.num_queries() + norms.num_keys()}, at::kFloat));
  }
  if (const Rotation* rotation = rotations.of_layer(model, layer))
    ops.rope(qkv_BQ, *rotation, model.num_heads + model.num_kv_heads, 1.0f);
  const at::Tensor attention_out_BD = multiply(Product::kO, attend(layer, qkv_BQ));
  const at::Tensor middle_BD = scaled(normed(BlockNorm::kAfterAttention, attention_out_BD)) + input_BD;
  const bool is_parallel = model.norm_placement == NormPlacement::kParallel;
  const at::Tensor feed_forward_input_BD = is_parallel ? normed_BD : normed(BlockNorm::kBeforeFeedForward, middle_BD);
  const at::Tensor hidden_BF = ops.feed_forward(model.feed_forward, multiply(Product::kGateUp, feed_forward_input_BD));
  return scaled(normed(BlockNorm::kAfterFeedForward, multiply(Product::kDown, hidden_BF))) + middle_BD;
}

/// The next token of this sequence changes the rotation of the tokens before it.
bool Decoder::rotates_anew(const Sequence& sequence) const {
  const auto changes = [&](const RopeConfig& rope) {
    if (rope.kind == RopeConfig::Kind::kDynamic) return sequence.num_tokens >= config().max_position_embeddings;
    return rope.kind == RopeConfig::Kind::kLongRope && sequence.num_tokens == rope.original_max_position_embeddings;
  };
  return changes(config().rope) || (config().sliding_rope && changes(*config().sliding_rope));
}

at::Tensor Decoder::step(std::span<const int32_t> tokens) {
  note_progress();
  check(tokens.size() == sequences_.size(), "every sequence gets a token");
  const std::vector<int64_t> token_ids(tokens.begin(), tokens.end());
  check_ids(token_ids);
  for (size_t i = 0; i < sequences_.size(); ++i) sequences_[i].tokens.push_back(tokens[i]);
  if (std::any_of(sequences_.begin(), sequences_.end(), [&](const Sequence& s) { return rotates_anew(s); })) {
    std::vector<std::vector<int32_t>> texts;
    for (Sequence& sequence : sequences_) texts.push_back(std::move(sequence.tokens));
    return start(texts);
  }
  std::vector<int64_t> lengths;
  for (const Sequence& sequence : sequences_) lengths.push_back(sequence.num_tokens + 1);
  const ModelRope::Rotations rotations = units_.rope().of_last_tokens(lengths);
  const at::Tensor hidden_BD =
      walk_blocks(units_, token_ids, [&](int64_t layer, const BlockParameters& parameters, const at::Tensor& x_BD) {
        return step_block(layer, parameters, rotations, x_BD);
      });
  for (Sequence& sequence : sequences_) ++sequence.num_tokens;
  return logits(hidden_BD);
}

void Decoder::keep(std::span<const int64_t> rows) {
  std::vector<Sequence> remaining;
  for (const int64_t row : rows) remaining.push_back(std::move(sequences_[row]));
  sequences_ = std::move(remaining);
}

std::vector<std::vector<int32_t>> generate(Decoder& decoder, std::span<const std::vector<int32_t>> prompts,
                                           const GenerateOptions& options, uint64_t first_row,
                                           const std::function<void(size_t, int32_t)>& on_token) {
  const ModelConfig& config = decoder.config();
  std::vector<std::vector<int32_t>> texts(prompts.size());
  if (prompts.empty() || options.max_new_tokens == 0) return texts;
  const int64_t num_choices =
      options.num_known_tokens > 0 ? std::min(options.num_known_tokens, config.vocab_size) : config.vocab_size;
  std::vector<size_t> active(prompts.size());  // the prompt of each row of the batch
  for (size_t i = 0; i < active.size(); ++i) active[i] = i;

  at::Tensor logits_BV = decoder.start(prompts);
  while (true) {
    std::vector<int64_t> rows;
    std::vector<size_t> still_active;
    std::vector<int32_t> tokens;
    for (size_t row = 0; row < active.size(); ++row) {
      const size_t prompt = active[row];
      const std::span logits(logits_BV.data_ptr<float>() + static_cast<int64_t>(row) * config.vocab_size, num_choices);
      const size_t position = prompts[prompt].size() + texts[prompt].size();
      const int32_t token =
          sample_token(logits, options.sampling, random_uniform(options.seed, first_row + prompt, position));
      if (std::find(options.stop_ids.begin(), options.stop_ids.end(), token) != options.stop_ids.end()) continue;
      texts[prompt].push_back(token);
      if (on_token) on_token(prompt, token);
      const bool is_full = static_cast<int64_t>(position) + 1 >= config.max_position_embeddings;
      if (is_full || std::ssize(texts[prompt]) >= options.max_new_tokens) continue;
      rows.push_back(static_cast<int64_t>(row));
      still_active.push_back(prompt);
      tokens.push_back(token);
    }
    if (tokens.empty()) return texts;
    if (rows.size() < active.size()) decoder.keep(rows);
    active = std::move(still_active);
    logits_BV = decoder.step(tokens);
  }
}

}  // namespace plumb
