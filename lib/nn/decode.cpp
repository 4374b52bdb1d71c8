#include "lib/nn/decode.hpp"

#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <cmath>

#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/random.hpp"
#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

constexpr int64_t kFirstCapacity = 64;  // tokens; doubles

at::Tensor project(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {}) {
  return bias.defined() ? at::addmm(bias, x, weight.t()) : at::mm(x, weight.t());
}

at::Tensor normalize(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  at::Tensor y = at::empty_like(x);
  const at::Tensor rstd = at::empty({x.size(0)}, at::TensorOptions().dtype(at::kFloat));
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    activation_kernels<T>().rms_norm(data_of<T>(x), nullptr, nullptr, data_of<T>(weight), data_of<T>(y),
                                     data_of<float>(rstd), x.size(0), x.size(1), static_cast<float>(epsilon));
  });
  return y;
}

/// Qwen3's norm of each query and key head, in place.
void normalize_heads(const ModelConfig& config, const BlockTensors& p, const at::Tensor& qkv) {
  const int64_t h = config.num_heads, g = config.num_kv_heads, k = config.head_dim;
  const auto epsilon = static_cast<float>(config.rms_norm_eps);
  std::vector<float> rstd(h + g);
  with_element_type(qkv.scalar_type(), [&]<class T>(T*) {
    const auto& kernels = activation_kernels<T>();
    for (int64_t row = 0; row < qkv.size(0); ++row) {
      T* heads = data_of<T>(qkv) + row * qkv.size(1);
      kernels.rms_norm(heads, nullptr, nullptr, data_of<T>(p.q_norm_K), heads, rstd.data(), h, k, epsilon);
      heads += h * k;
      kernels.rms_norm(heads, nullptr, nullptr, data_of<T>(p.k_norm_K), heads, rstd.data(), g, k, epsilon);
    }
  });
}

void rotate(const ModelConfig& config, const RopeTable& rope, const at::Tensor& qkv) {
  with_element_type(qkv.scalar_type(), [&]<class T>(T*) {
    activation_kernels<T>().rope(data_of<T>(qkv), qkv.size(1), rope.cos.data(), rope.sin.data(), qkv.size(0),
                                 config.num_heads + config.num_kv_heads, config.head_dim, 1.0f);
  });
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  const at::Tensor y = at::empty({gate_up.size(0), gate_up.size(1) / 2}, gate_up.options());
  with_element_type(y.scalar_type(), [&]<class T>(T*) {
    activation_kernels<T>().swiglu(data_of<T>(gate_up), data_of<T>(y), y.size(0), y.size(1));
  });
  return y;
}

}  // namespace

Decoder::Decoder(const ModelConfig& config, const std::vector<at::Tensor>& units)
    : config_(config), frequencies_(rope_frequencies(config)) {
  check(config.head == HeadKind::kLanguageModel, "text comes from a language model");
  const std::vector<UnitLayout> layouts = unit_layouts(config);
  check(units.size() == layouts.size(), "every unit of the model is there");
  for (size_t unit = 0; unit < units.size(); ++unit) {
    for (const Parameter& p : layouts[unit].parameters) {
      const at::Tensor view = units[unit].narrow(0, p.offset, p.num_elements()).view(p.shape);
      if (p.kind == ParameterKind::kEmbedding) embedding_VD_ = view;
      if (p.kind == ParameterKind::kFinalNorm) final_norm_D_ = view;
      if (p.kind == ParameterKind::kHead) head_VD_ = view;
    }
    if (layouts[unit].parameters.front().layer >= 0) blocks_.push_back(block_tensors(layouts[unit], units[unit]));
  }
  if (config.shares_head()) head_VD_ = embedding_VD_;
}

at::Tensor Decoder::embed(const std::vector<int64_t>& token_ids) const {
  for (const int64_t id : token_ids)
    if (id < 0 || id >= config_.vocab_size)
      throw_error<DataError>("token id {}: expected one below the model's vocab_size {}", id, config_.vocab_size);
  const at::Tensor ids = at::from_blob(const_cast<int64_t*>(token_ids.data()), {std::ssize(token_ids)},
                                       at::TensorOptions().dtype(at::kLong));
  return at::index_select(embedding_VD_, 0, ids);
}

at::Tensor Decoder::head(const at::Tensor& hidden_BD) const {
  return project(normalize(hidden_BD, final_norm_D_, config_.rms_norm_eps), head_VD_).to(at::kFloat);
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
    if (prompt.empty()) throw DataError("a prompt without tokens; a model needs at least one to go on from");
    token_ids.insert(token_ids.end(), prompt.begin(), prompt.end());
    document_begin.push_back(std::ssize(token_ids));
    last_tokens.push_back(std::ssize(token_ids) - 1);
  }
  sequences_.assign(prompts.size(), {0, std::vector<Cache>(blocks_.size())});
  const BlockContext context(config_, {document_begin, {}});
  const int64_t query_columns = config_.num_heads * config_.head_dim;
  at::Tensor x_TD = embed(token_ids);
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    BlockActivations kept;
    x_TD = block_forward(context, layer, blocks_[layer], x_TD, kept);
    for (size_t i = 0; i < sequences_.size(); ++i)
      append(sequences_[i], layer,
             kept.qkv_TQ.slice(0, document_begin[i], document_begin[i + 1]).slice(1, query_columns));
  }
  for (size_t i = 0; i < sequences_.size(); ++i) sequences_[i].num_tokens = std::ssize(prompts[i]);
  const at::Tensor last =
      at::from_blob(last_tokens.data(), {std::ssize(last_tokens)}, at::TensorOptions().dtype(at::kLong));
  return head(at::index_select(x_TD, 0, last));
}

/// Each row of qkv sees its own sequence, which it has just joined.
at::Tensor Decoder::attend(int64_t layer, const at::Tensor& qkv_BQ) {
  const int64_t h = config_.num_heads, g = config_.num_kv_heads, k = config_.head_dim, q_columns = h * k;
  const int64_t window = config_.sliding_window[layer];
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
    const at::Tensor query = qkv_BQ.narrow(0, row, 1).slice(1, 0, q_columns).view({1, h, 1, k});
    const auto [output, log_sum_exp] = at::_scaled_dot_product_flash_attention_for_cpu(
        query, heads(0), heads(g), 0.0, false, std::nullopt, 1.0 / std::sqrt(static_cast<double>(k)));
    out.narrow(0, row, 1).copy_(output.reshape({1, q_columns}));
  }
  return out;
}

at::Tensor Decoder::step_block(int64_t layer, const RopeTable& rope, const at::Tensor& input_BD) {
  const BlockTensors& p = blocks_[layer];
  const double epsilon = config_.rms_norm_eps;
  const at::Tensor qkv_BQ = project(normalize(input_BD, p.input_norm_D, epsilon), p.qkv_QD, p.qkv_bias_Q);
  if (config_.has_qk_norm) normalize_heads(config_, p, qkv_BQ);
  rotate(config_, rope, qkv_BQ);
  const at::Tensor middle_BD = project(attend(layer, qkv_BQ), p.o_DO, p.o_bias_D).add_(input_BD);
  const at::Tensor gate_up = project(normalize(middle_BD, p.post_norm_D, epsilon), p.gate_up_ED);
  return at::addmm(middle_BD, swiglu(gate_up), p.down_DF.t());
}

at::Tensor Decoder::step(std::span<const int32_t> tokens) {
  note_progress();
  check(tokens.size() == sequences_.size(), "every sequence gets a token");
  RopeTable rope;
  for (const Sequence& sequence : sequences_) {
    const RopeTable row = rope_table_from(frequencies_, sequence.num_tokens, 1);
    rope.cos.insert(rope.cos.end(), row.cos.begin(), row.cos.end());
    rope.sin.insert(rope.sin.end(), row.sin.begin(), row.sin.end());
  }
  at::Tensor x_BD = embed({tokens.begin(), tokens.end()});
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) x_BD = step_block(layer, rope, x_BD);
  for (Sequence& sequence : sequences_) ++sequence.num_tokens;
  return head(x_BD);
}

void Decoder::keep(std::span<const int64_t> rows) {
  std::vector<Sequence> kept;
  for (const int64_t row : rows) kept.push_back(std::move(sequences_[row]));
  sequences_ = std::move(kept);
}

std::vector<std::vector<int32_t>> generate(Decoder& decoder, std::span<const std::vector<int32_t>> prompts,
                                           const GenerateOptions& options, uint64_t first_row,
                                           const std::function<void(size_t, int32_t)>& on_token) {
  const ModelConfig& config = decoder.config();
  std::vector<std::vector<int32_t>> texts(prompts.size());
  if (prompts.empty() || options.max_new_tokens == 0) return texts;
  const int64_t num_choices =
      options.num_known_tokens > 0 ? std::min(options.num_known_tokens, config.vocab_size) : config.vocab_size;
  std::vector<size_t> active(prompts.size());  // the prompt behind each row of the batch
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
