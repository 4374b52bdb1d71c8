// Text generation from a complete model in one process: prompts pass through the blocks, then one token of every text
// per step, with the keys and values of earlier tokens cached in pages. Texts join and leave the batch at
// any step: the bits of a text do not depend on the others, so neither their order nor their grouping matters.
// Source: continuous batching is that of Orca (OSDI 2022); shared pages are those of vLLM, arXiv:2309.06180.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"
#include "lib/model/sampling.hpp"
#include "lib/nn/block.hpp"
#include "lib/nn/decode_ops.hpp"
#include "lib/nn/resident_units.hpp"

namespace plumb {

// B = texts of the batch, T = tokens of a prompt, D = hidden_size, Q = columns of query, key and value together, V =
// vocabulary.

class Decoder {
 public:
  /// units: the flat tensors of unit_layouts(config), in order, all float32 or all bfloat16; their memory is shared.
  /// Throws std::logic_error for a model without a language-model head.
  Decoder(const ModelConfig& config, const std::vector<at::Tensor>& units);
  /// With matrices that may be quantized or adapted: the texts are those of the merged model, which is not made.
  explicit Decoder(ResidentUnits units);

  struct NewTexts {
    std::span<const int32_t> prompt;
    int64_t num_copies = 1;  // texts that begin with it and share its cache
  };
  /// Appends texts to the batch, copies next to each other; returns the logits after each prompt, float32 [prompts, V].
  /// Throws DataError for an empty prompt or an id outside the vocabulary.
  at::Tensor add(std::span<const NewTexts> prompts);
  at::Tensor add(std::span<const int32_t> prompt, int64_t num_copies = 1);

  /// Appends one token to each text and returns the logits after it, float32 [B, V]. Throws DataError for an id outside
  /// the vocabulary.
  at::Tensor step(std::span<const int32_t> tokens);

  /// Drops all texts except these rows of the batch. rows: ascending.
  void keep(std::span<const int64_t> rows);

  int64_t num_texts() const { return std::ssize(texts_); }
  /// Memory of the cache of one text with this many tokens.
  int64_t cache_bytes(int64_t num_tokens) const;

  const ModelConfig& config() const { return units_.config(); }

 private:
  struct Text {
    std::vector<int32_t> tokens;
    CachedText cache;  // of one token less during a step
  };
  void check_ids(std::span<const int32_t> token_ids) const;
  at::Tensor logits(const at::Tensor& hidden_BD);
  at::Tensor empty_page() const;
  /// Tokens of some texts on their way through the blocks.
  struct Rows {
    std::vector<int64_t> token_ids;
    ModelRope::Rotations rotations;
    bool are_prompts;  // not one token of each text
    /// From queries, keys and values of a layer, which it also writes to the caches.
    std::function<at::Tensor(int64_t layer, const at::Tensor& sinks_H, const at::Tensor& qkv_BQ)> attend;
  };
  at::Tensor compute(const Rows& rows);
  at::Tensor compute_block(int64_t layer, const BlockParameters& parameters, const Rows& rows,
                           const at::Tensor& input_BD);
  at::Tensor fill_caches(std::span<Text> texts);
  at::Tensor step_texts(std::span<const CachedText* const> caches, std::span<const int32_t> tokens);
  bool needs_other_rotation(const Text& text) const;

  ResidentUnits units_;
  at::TensorOptions options_;  // of activations
  std::vector<Text> texts_;
};

struct GenerateOptions {
  int64_t max_new_tokens = 256;
  std::vector<int32_t> stop_ids = {};
  SamplingOptions sampling = {};
  uint64_t seed = 42;
  int64_t num_known_tokens = 0;  // ids from here on pad the vocabulary and are never sampled; 0: no such ids
  bool keeps_end = false;        // the stop id that ended a text is its last token; a text without one was cut off
};

/// Memory of the cache of a text of this many tokens, and how many texts generate() continues at a time if each needs
/// this much: enough that reading the weights is shared, few enough for their caches.
int64_t text_cache_bytes(const ModelConfig& config, int64_t num_tokens, int64_t element_bytes);
int64_t texts_at_once(int64_t bytes_of_text);

/// That number for texts with these prompts.
int64_t texts_at_once(const Decoder& decoder, std::span<const std::vector<int32_t>> prompts, int64_t max_new_tokens);

/// Texts by number: text n continues prompt (n - first_number) / num_copies.
struct TextQueue {
  std::span<const std::vector<int32_t>> prompts;
  int64_t num_copies = 1;
  int64_t first_number = 0;
  std::function<std::optional<int64_t>()> next;  // the number of the next text; none at the end
};
struct NumberedText {
  int64_t number = 0;
  std::vector<int32_t> tokens = {};
};

/// Continues each text of the queue until a stop id, max_new_tokens, or the last position of the model, at_once at a
/// time: the next one takes the place of one that ended. Equal prompts in a row are computed once. Random numbers
/// depend on (seed, number, position) only. on_token, if given, is called with each token of a text as it is sampled.
std::vector<NumberedText> generate(Decoder& decoder, const TextQueue& queue, int64_t at_once,
                                   const GenerateOptions& options,
                                   const std::function<void(int64_t number, int32_t token)>& on_token = {});

/// The same for these prompts, as many at a time as keep the cache small. The number of a text is first_row + the index
/// of its prompt.
std::vector<std::vector<int32_t>> generate(Decoder& decoder, std::span<const std::vector<int32_t>> prompts,
                                           const GenerateOptions& options, uint64_t first_row = 0,
                                           const std::function<void(size_t prompt, int32_t token)>& on_token = {});

}  // namespace plumb
