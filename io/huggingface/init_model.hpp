// A model directory from nothing: random weights, written chunk by chunk so that no more than a chunk is in memory, and
// a tokenizer. The tokenizer is another model's, or a byte-level one made here: 256 tokens of a byte each and a few
// control tokens. Source: the tokenizer.json format of huggingface/tokenizers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/file/atomic_directory.hpp"
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
};

/// template_name: one of template_names(), which becomes the model's own chat template, or "" for none. Throws
/// UsageError for a template whose control tokens this tokenizer lacks.
NewTokenizer make_byte_level_tokenizer(std::string_view template_name);

/// The tokenizer of a model directory; a template_name replaces its chat template.
NewTokenizer copy_tokenizer(const std::string& model_directory, std::string_view template_name);

/// dtype: kF32 or kBf16. `directory` appears when all is written. Throws UsageError if it holds files already, unless
/// it is a model that may be replaced.
void write_random_model(const std::string& directory, const ModelConfig& config, Dtype dtype, uint64_t seed,
                        const NewTokenizer& tokenizer, ExistingDirectory existing);

}  // namespace plumb
