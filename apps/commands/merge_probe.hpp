// Measures what a change of its weights does to a model: a few texts go through both versions, and their distributions
// over the next token are compared. One unit of the model is in memory at a time, so this costs little compared with
// writing the model.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "io/dataset/dataset.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/model/batch.hpp"
#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

/// Concatenated texts of a few hundred tokens: the first documents of the dataset, truncated, or without one texts of
/// plumb's own. Throws InputOutputError if the directory has no tokenizer.
MicroBatch probe_batch(const TokenizerSource& source, const ModelConfig& config, const Dataset* dataset);

/// Fills the flat buffer of a unit, all of it.
using ReadUnit = std::function<void(const UnitLayout& unit, std::span<float> values)>;

struct ProbeResult {
  int64_t num_tokens = 0;
  double mean_kl = 0;                // nats, of a language model: sum of p log(p / q), p of the first model
  double max_kl = 0;                 // of a token
  double same_best = 0;              // share of tokens for which both prefer the same next token
  double max_reward_difference = 0;  // of a reward model, and then nothing else
};

/// Both in float32. The same bits for the same weights.
ProbeResult compare_models(const ModelConfig& config, const MicroBatch& batch, const ReadUnit& first,
                           const ReadUnit& second);

}  // namespace plumb
