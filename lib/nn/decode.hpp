// Text generation from a complete model in one process: the prompts of a batch pass through the blocks together, then
// one token per sequence and step, with the keys and values of all earlier tokens cached. Sequences may differ in
// length.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"
#include "lib/model/sampling.hpp"
#include "lib/nn/block.hpp"
#include "lib/nn/resident_units.hpp"

namespace plumb {

// B = sequences, T = tokens of all prompts, D = hidden_size, Q = columns of query, key and value together, V =
// vocabulary.

class Decoder {
 public:
  /// units: the flat tensors of unit_layouts(config), in order, all float32 or all bfloat16; their memory is shared.
  /// Throws std::logic_error for a model without a language-model head.
  Decoder(const ModelConfig& config, const std::vector<at::Tensor>& units);

  /// Replaces the batch by these prompts and returns the logits after each, float32 [B, V]. Throws DataError for an
  /// empty prompt or an id outside the vocabulary.
  at::Tensor start(std::span<const std::vector<int32_t>> prompts);

  /// Appends one token to each sequence and returns the logits after it, float32 [B, V]. Throws DataError for an id
  /// outside the vocabulary.
  at::Tensor step(std::span<const int32_t> tokens);

  /// Drops all sequences except these rows of the batch. rows: ascending.
  void keep(std::span<const int64_t> rows);

  const ModelConfig& config() const { return units_.config(); }

 private:
  /// Keys and values of one sequence in one layer: [capacity, 2 G K], rotated keys first.
  using Cache = at::Tensor;
  struct Sequence {
    int64_t num_tokens = 0;       // in the caches
    std::vector<int32_t> tokens;  // one more during a step
    std::vector<Cache> layers;
  };
  void check_ids(std::span<const int64_t> token_ids) const;
  at::Tensor logits(const at::Tensor& hidden_BD);
  void append(Sequence& sequence, int64_t layer, const at::Tensor& keys_values) const;
  at::Tensor attend(int64_t layer, const at::Tensor& qkv_BQ);
  at::Tensor step_block(int64_t layer, const BlockParameters& parameters, const ModelRope::Rotations& rotations,
                        const at::Tensor& input_BD);
  bool rotates_anew(const Sequence& sequence) const;

  ResidentUnits units_;
  std::vector<Sequence> sequences_;
};

struct GenerateOptions {
  int64_t max_new_tokens = 256;
  std::vector<int32_t> stop_ids = {};
  SamplingOptions sampling = {};
  uint64_t seed = 42;
  int64_t num_known_tokens = 0;  // ids from here on pad the vocabulary and are never sampled; 0: no such ids
};

/// Continues each prompt until a stop id (which is not returned), max_new_tokens, or the last position of the model.
/// Random numbers depend on (seed, first_row + index of the prompt, position) only. on_token, if given, is called with
/// each token as it is sampled.
std::vector<std::vector<int32_t>> generate(Decoder& decoder, std::span<const std::vector<int32_t>> prompts,
                                           const GenerateOptions& options, uint64_t first_row = 0,
                                           const std::function<void(size_t prompt, int32_t token)>& on_token = {});

}  // namespace plumb
