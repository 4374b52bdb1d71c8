#include "lib/nn/decode.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>

#include <algorithm>
#include <utility>

#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/random.hpp"
#include "lib/nn/logits.hpp"
#include "lib/nn/tensor_ops.hpp"

namespace plumb {

namespace {

constexpr int64_t kLeastTexts = 8, kMostTexts = 64, kMostCacheBytes = int64_t{2} << 30;
constexpr int64_t kPromptTokens = 2048;  // of prompts that are computed together

}  // namespace

Decoder::Decoder(const ModelConfig& config, const std::vector<at::Tensor>& units)
    : Decoder(ResidentUnits(config, units)) {}

Decoder::Decoder(ResidentUnits units) : units_(std::move(units)), options_(at::TensorOptions().dtype(units_.dtype())) {
  check(config().head == HeadKind::kLanguageModel, "text comes from a language model");
}

void Decoder::check_ids(std::span<const int32_t> token_ids) const {
  for (const int32_t id : token_ids)
    if (id < 0 || id >= config().vocab_size)
      throw_error<DataError>("token id {}: expected one below the model's vocab_size {}", id, config().vocab_size);
}

at::Tensor Decoder::logits(const at::Tensor& hidden_BD) {
  const HeadTensors head = units_.acquire_head();
  const at::Tensor normed_BD = normalize(hidden_BD, {config().norm, head.norm_D, head.norm_bias_D}).y;
  const at::Tensor logits_BV = multiply_head(head, normed_BD);
  if (config().logits.scale != 1) logits_BV.mul_(config().logits.scale);
  cap_logits(logits_BV, config().logits);
  return logits_BV;
}

at::Tensor Decoder::empty_page() const {
  return plumb::empty_page(attention_shape(config(), 0, {}), config().num_layers, options_);
}

int64_t text_cache_bytes(const ModelConfig& config, int64_t num_tokens, int64_t element_bytes) {
  const int64_t num_pages = (num_tokens + kPageTokens - 1) / kPageTokens;
  return num_pages * kPageTokens * config.num_layers * 2 * config.num_kv_heads * config.head_dim * element_bytes;
}

int64_t texts_at_once(int64_t bytes_of_text) {
  return std::clamp(kMostCacheBytes / std::max<int64_t>(1, bytes_of_text), kLeastTexts, kMostTexts);
}

int64_t Decoder::cache_bytes(int64_t num_tokens) const {
  return text_cache_bytes(config(), num_tokens, static_cast<int64_t>(options_.dtype().itemsize()));
}

at::Tensor Decoder::compute_block(int64_t layer, const BlockParameters& p, const Rows& rows,
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
    return multiply_linear(p[product], x, rows.are_prompts);
  };
  const at::Tensor normed_BD = normed(BlockNorm::kBeforeAttention, input_BD);
  const at::Tensor qkv_BQ = multiply(Product::kQkv, normed_BD);
  if (model.qk_norm != QkNorm::kNone) {
    const HeadNorms norms = head_norms(model, p);
    ops.norm_heads(qkv_BQ, norms, qkv_BQ,
                   at::empty({qkv_BQ.size(0), norms.num_queries() + norms.num_keys()}, at::kFloat));
  }
  if (const Rotation* rotation = rows.rotations.of_layer(model, layer))
    ops.rope(qkv_BQ, *rotation, model.num_heads + model.num_kv_heads, 1.0f);
  const at::Tensor attention_out_BD = multiply(Product::kO, rows.attend(layer, p.sinks_H, qkv_BQ));
  const at::Tensor middle_BD = scaled(normed(BlockNorm::kAfterAttention, attention_out_BD)) + input_BD;
  const bool is_parallel = model.norm_placement == NormPlacement::kParallel;
  const at::Tensor feed_forward_input_BD = is_parallel ? normed_BD : normed(BlockNorm::kBeforeFeedForward, middle_BD);
  if (p.experts)
    return experts_output(
        expert_config(model.mixture), *p.experts, feed_forward_input_BD, middle_BD,
        [&](const at::Tensor& x, const Linear& linear) { return multiply_linear(linear, x, rows.are_prompts); });
  const at::Tensor hidden_BF = ops.feed_forward(model.feed_forward, multiply(Product::kGateUp, feed_forward_input_BD));
  return scaled(normed(BlockNorm::kAfterFeedForward, multiply(Product::kDown, hidden_BF))) + middle_BD;
}

at::Tensor Decoder::compute(const Rows& rows) {
  return walk_blocks(units_, rows.token_ids,
                     [&](int64_t layer, const BlockParameters& parameters, const at::Tensor& x_BD) {
                       return compute_block(layer, parameters, rows, x_BD);
                     });
}

/// Computes these texts from their first token on and returns the logits after each.
at::Tensor Decoder::fill_caches(std::span<Text> texts) {
  Rows rows;
  std::vector<int64_t> begin{0}, last_tokens;
  for (Text& text : texts) {
    rows.token_ids.insert(rows.token_ids.end(), text.tokens.begin(), text.tokens.end());
    begin.push_back(std::ssize(rows.token_ids));
    last_tokens.push_back(begin.back() - 1);
    text.cache.num_tokens = std::ssize(text.tokens);
    text.cache.pages.clear();
    while (std::ssize(text.cache.pages) * kPageTokens < text.cache.num_tokens) text.cache.pages.push_back(empty_page());
  }
  const Documents documents{begin, {}};
  rows.are_prompts = true;
  rows.rotations = units_.rope().of_documents(documents);
  rows.attend = [&](int64_t layer, const at::Tensor& sinks_H, const at::Tensor& qkv_TQ) {
    const AttentionShape shape = attention_shape(config(), layer, sinks_H);
    for (size_t i = 0; i < texts.size(); ++i)
      write_cache(shape, layer, qkv_TQ.slice(0, begin[i], begin[i + 1]), texts[i].cache, 0);
    const at::Tensor out = at::empty({qkv_TQ.size(0), shape.num_heads * shape.head_dim}, qkv_TQ.options());
    AttentionActivations saved;
    attention_forward(shape, qkv_TQ, documents, out, saved);
    return out;
  };
  return logits(at::index_select(compute(rows), 0, as_tensor(last_tokens)));
}

at::Tensor Decoder::add(std::span<const NewTexts> prompts) {
  std::vector<Text> texts;
  for (const NewTexts& added : prompts) {
    if (added.prompt.empty()) throw DataError("a prompt without tokens; a model needs at least one to continue");
    check_ids(added.prompt);
    texts.push_back({{added.prompt.begin(), added.prompt.end()}, {}});
  }
  at::Tensor logits_BV = fill_caches(texts);
  for (size_t i = 0; i < texts.size(); ++i) {
    const bool has_room = texts[i].cache.num_tokens % kPageTokens > 0;  // in the last page, which copies will write to
    for (int64_t copy = 1; copy < prompts[i].num_copies; ++copy) {
      Text& text = texts_.emplace_back(texts[i]);
      if (has_room) text.cache.pages.back() = text.cache.pages.back().clone();
    }
    texts_.push_back(std::move(texts[i]));
  }
  return logits_BV;
}

at::Tensor Decoder::add(std::span<const int32_t> prompt, int64_t num_copies) {
  const NewTexts texts{prompt, num_copies};
  return add(std::span(&texts, 1));
}

/// The last token of this text changes the rotation of the tokens before it.
bool Decoder::needs_other_rotation(const Text& text) const {
  const int64_t num_tokens = std::ssize(text.tokens);
  const auto changes = [&](const RopeConfig& rope) {
    if (rope.kind == RopeConfig::Kind::kDynamic) return num_tokens > config().max_position_embeddings;
    return rope.kind == RopeConfig::Kind::kLongRope && num_tokens == rope.original_max_position_embeddings + 1;
  };
  return changes(config().rope) || (config().sliding_rope && changes(*config().sliding_rope));
}

at::Tensor Decoder::step(std::span<const int32_t> tokens) {
  note_progress();
  check(std::ssize(tokens) == num_texts(), "every text gets a token");
  check_ids(tokens);
  std::vector<at::Tensor> logits(texts_.size());  // of texts that are computed from their first token
  std::vector<const CachedText*> caches;          // of the others
  std::vector<int32_t> next;
  for (size_t i = 0; i < texts_.size(); ++i) {
    Text& text = texts_[i];
    text.tokens.push_back(tokens[i]);
    if (needs_other_rotation(text)) {
      logits[i] = fill_caches({&text, 1});
      continue;
    }
    if (text.cache.num_tokens % kPageTokens == 0) text.cache.pages.push_back(empty_page());
    ++text.cache.num_tokens;
    caches.push_back(&text.cache);
    next.push_back(tokens[i]);
  }
  if (caches.empty()) return at::cat(logits);
  const at::Tensor stepped = step_texts(caches, next);
  if (caches.size() == texts_.size()) return stepped;
  int64_t row = 0;
  for (at::Tensor& of_text : logits)
    if (!of_text.defined()) of_text = stepped.narrow(0, row++, 1);
  return at::cat(logits);
}

at::Tensor Decoder::step_texts(std::span<const CachedText* const> caches, std::span<const int32_t> tokens) {
  Rows rows{.token_ids = {tokens.begin(), tokens.end()}, .rotations = {}, .are_prompts = false, .attend = {}};
  std::vector<int64_t> lengths;
  for (const CachedText* cache : caches) lengths.push_back(cache->num_tokens);
  rows.rotations = units_.rope().of_last_tokens(lengths);
  rows.attend = [&](int64_t layer, const at::Tensor& sinks_H, const at::Tensor& qkv_BQ) {
    const AttentionShape shape = attention_shape(config(), layer, sinks_H);
    for (int64_t row = 0; row < std::ssize(caches); ++row)
      write_cache(shape, layer, qkv_BQ.narrow(0, row, 1), *caches[row], caches[row]->num_tokens - 1);
    return attend_to_cache(shape, layer, qkv_BQ, caches);
  };
  return logits(compute(rows));
}

void Decoder::keep(std::span<const int64_t> rows) {
  std::vector<Text> remaining;
  for (const int64_t row : rows) remaining.push_back(std::move(texts_[row]));
  texts_ = std::move(remaining);
}

namespace {

/// The texts of generate().
class Continuations {
 public:
  Continuations(Decoder& decoder, const TextQueue& queue, int64_t at_once, const GenerateOptions& options,
                const std::function<void(int64_t, int32_t)>& on_token)
      : decoder_(decoder),
        queue_(queue),
        at_once_(at_once),
        options_(options),
        on_token_(on_token),
        num_choices_(options.num_known_tokens > 0 ? std::min(options.num_known_tokens, decoder.config().vocab_size)
                                                  : decoder.config().vocab_size) {}

  std::vector<NumberedText> run() {
    decoder_.keep({});
    while (true) {
      while (decoder_.num_texts() < at_once_ && begin_texts()) continue;
      if (rows_.empty()) return std::move(texts_);
      const at::Tensor logits_BV = decoder_.step(tokens_);
      std::vector<size_t> rows = std::move(rows_);
      rows_.clear();
      tokens_.clear();
      take(rows, logits_BV, 0);
    }
  }

 private:
  const std::vector<int32_t>& prompt_of(const NumberedText& text) const {
    return queue_.prompts[(text.number - queue_.first_number) / queue_.num_copies];
  }

  /// Returns false if there are no more texts.
  bool begin_texts() {
    const int64_t first_row = decoder_.num_texts();
    int64_t num_tokens = 0;
    std::vector<Decoder::NewTexts> added;
    std::vector<size_t> rows;
    std::vector<int64_t> prompt_of_row;
    while (first_row + std::ssize(rows) < at_once_ && num_tokens < kPromptTokens) {
      const std::optional<int64_t> number = queue_.next();
      if (!number) break;
      texts_.push_back({*number});
      const std::vector<int32_t>& prompt = prompt_of(texts_.back());
      if (!rows.empty() && prompt_of(texts_[rows.back()]) == prompt) {
        ++added.back().num_copies;
      } else {
        num_tokens += std::ssize(prompt);
        added.push_back({prompt});
      }
      rows.push_back(texts_.size() - 1);
      prompt_of_row.push_back(std::ssize(added) - 1);
    }
    if (rows.empty()) return false;
    take(rows, at::index_select(decoder_.add(added), 0, as_tensor(prompt_of_row)), first_row);
    return true;
  }

  /// Appends a token to these texts, which are the last rows of the batch, from `first_row` on; rows that end leave the
  /// batch.
  void take(const std::vector<size_t>& texts, const at::Tensor& logits_BV, int64_t first_row) {
    std::vector<int32_t> sampled(texts.size());
    at::parallel_for(0, std::ssize(texts), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sampled[i] = sample(texts_[texts[i]], logits_BV[i]);
    });
    std::vector<int64_t> staying;
    for (int64_t row = 0; row < first_row; ++row) staying.push_back(row);
    for (size_t i = 0; i < texts.size(); ++i) {
      if (!append(texts_[texts[i]], sampled[i])) continue;
      staying.push_back(first_row + static_cast<int64_t>(i));
      rows_.push_back(texts[i]);
      tokens_.push_back(sampled[i]);
    }
    if (std::ssize(staying) < decoder_.num_texts()) decoder_.keep(staying);
  }

  int32_t sample(const NumberedText& text, const at::Tensor& logits_V) const {
    const std::span logits(logits_V.data_ptr<float>(), static_cast<size_t>(num_choices_));
    const double uniform = random_uniform(options_.seed, static_cast<uint64_t>(text.number), position(text));
    if (options_.sampling.repetition_penalty == 1) return sample_token(logits, options_.sampling, uniform);
    std::vector<float> penalized(logits.begin(), logits.end());
    std::vector<int32_t> seen = prompt_of(text);
    seen.insert(seen.end(), text.tokens.begin(), text.tokens.end());
    penalize_repetition(penalized, seen, options_.sampling.repetition_penalty);
    return sample_token(penalized, options_.sampling, uniform);
  }

  /// Returns false if the text has ended.
  bool append(NumberedText& text, int32_t token) {
    const bool is_end = std::find(options_.stop_ids.begin(), options_.stop_ids.end(), token) != options_.stop_ids.end();
    if (is_end && !options_.keeps_end) return false;
    text.tokens.push_back(token);
    if (on_token_) on_token_(text.number, token);
    const bool is_full = static_cast<int64_t>(position(text)) >= decoder_.config().max_position_embeddings;
    return !is_end && !is_full && std::ssize(text.tokens) < options_.max_new_tokens;
  }

  size_t position(const NumberedText& text) const { return prompt_of(text).size() + text.tokens.size(); }

  Decoder& decoder_;
  const TextQueue& queue_;
  int64_t at_once_;
  const GenerateOptions& options_;
  const std::function<void(int64_t, int32_t)>& on_token_;
  int64_t num_choices_;
  std::vector<NumberedText> texts_;
  // by row of the batch: its text, and the token that the next step appends
  std::vector<size_t> rows_;
  std::vector<int32_t> tokens_;
};

}  // namespace

int64_t texts_at_once(const Decoder& decoder, std::span<const std::vector<int32_t>> prompts, int64_t max_new_tokens) {
  int64_t longest = 0;
  for (const std::vector<int32_t>& prompt : prompts) longest = std::max(longest, std::ssize(prompt));
  return texts_at_once(
      decoder.cache_bytes(std::min(longest + max_new_tokens, decoder.config().max_position_embeddings)));
}

std::vector<NumberedText> generate(Decoder& decoder, const TextQueue& queue, int64_t at_once,
                                   const GenerateOptions& options,
                                   const std::function<void(int64_t, int32_t)>& on_token) {
  return Continuations(decoder, queue, at_once, options, on_token).run();
}

std::vector<std::vector<int32_t>> generate(Decoder& decoder, std::span<const std::vector<int32_t>> prompts,
                                           const GenerateOptions& options, uint64_t first_row,
                                           const std::function<void(size_t, int32_t)>& on_token) {
  std::vector<std::vector<int32_t>> texts(prompts.size());
  if (options.max_new_tokens == 0) return texts;
  const auto first = static_cast<int64_t>(first_row);
  int64_t num_taken = 0;
  const TextQueue queue{prompts, 1, first, [&]() -> std::optional<int64_t> {
                          if (num_taken == std::ssize(prompts)) return {};
                          return first + num_taken++;
                        }};
  std::function<void(int64_t, int32_t)> with_number;
  if (on_token) with_number = [&](int64_t number, int32_t token) { on_token(number - first, token); };
  const int64_t at_once = texts_at_once(decoder, prompts, options.max_new_tokens);
  for (NumberedText& text : generate(decoder, queue, at_once, options, with_number))
    texts[text.number - first] = std::move(text.tokens);
  return texts;
}

}  // namespace plumb
