// Small model configurations for tests.
#pragma once

#include "lib/model/model_config.hpp"

namespace plumb::test {

/// Grouped-query attention, biases on q, k and v, and sizes that are not multiples of any alignment.
inline ModelConfig tiny_config(bool ties_embeddings = false) {
  ModelConfig config;
  config.family = Family::kQwen2;
  config.vocab_size = 97;
  config.hidden_size = 40;
  config.intermediate_size = 52;
  config.num_layers = 3;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 10;
  config.max_position_embeddings = 64;
  config.sliding_window = {0, 0, 0};
  config.ties_embeddings = ties_embeddings;
  config.has_qkv_bias = true;
  return config;
}

}  // namespace plumb::test
