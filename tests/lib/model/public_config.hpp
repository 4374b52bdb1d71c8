// The config.json of public models, keys and values only, with facts about each model.
#pragma once

#include <cstdint>

#include "lib/model/model_config.hpp"

namespace plumb::test {

/// Where keys and values come from. Neither was compared with the file at its publisher.
enum class Source {
  kCopied,    // from a copy in another public repository: presets of mlc-ai/mlc-llm, tests of huggingface/diffusers
              // and others, read on 2026-11-30; what those added is left out
  kRecalled,  // written from knowledge of the published file: no full copy was seen
};

using Kind = RopeConfig::Kind;

struct PublicFacts {
  int64_t num_layers, num_heads, num_kv_heads, head_dim;
  int64_t first_window, last_window;  // 0: the layer attends to all tokens
  Kind rope;
  bool ties_embeddings;
  /// As published, from memory, without an encoder of images; 0: not known to the last digit. Set after counting, so a
  /// guard against change only: gemma-3 12b and 27b, Olmo-3-7B, GLM-4-32B, starcoder2-15b.
  int64_t num_parameters;
};

struct PublicConfig {
  const char* name;
  Source source;
  const char* json;
  PublicFacts facts;
};

}  // namespace plumb::test
