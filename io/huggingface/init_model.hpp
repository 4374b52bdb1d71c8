// Creates a model directory from scratch: random weights, written in chunks so that at most one chunk is in memory, and
// a tokenizer. The tokenizer is copied from a model, or a byte-level one is made: one token per byte and a few control
// tokens. Source: the tokenizer.json format of huggingface/tokenizers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/file/atomic_directory.hpp"
#include "io/huggingface/further_templates.hpp"
#include "lib/base/dtype.hpp"
#include "lib/model/model_config.hpp"

namespace plumb {

struct TextFile {
  std::string name;
  std::string content;
};

struct NewTokenizer {
  std::vector<TextFile> files;
  int64_t vocab_size = 0;
  int32_t bos_token_id = -1;  // -1: none
  int32_t eos_token_id = -1;
  FurtherTemplates further_templates = {};
};

/// template_name: one of template_names(), which becomes the model's own chat template, or "". Throws UsageError for a
/// template whose control tokens this tokenizer lacks.
NewTokenizer make_byte_level_tokenizer(std::string_view template_name);

/// Copies the tokenizer of a model directory; a non-empty template_name replaces its chat template.
NewTokenizer copy_tokenizer(const std::string& model_directory, std::string_view template_name);

/// dtype: kF32 or kBf16. `directory` appears under its name only when complete. Throws UsageError if it already
/// contains files, unless it is a model that may be replaced.
void write_random_model(const std::string& directory, const ModelConfig& config, Dtype dtype, uint64_t seed,
                        const NewTokenizer& tokenizer, ExistingDirectory existing);

}  // namespace plumb
