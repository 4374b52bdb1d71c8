// The files that go with exported weights so that others render, tokenize and end texts as in training: those of the
// tokenizer, its chat template, and generation_config.json.
// Source: transformers, PreTrainedTokenizerBase.save_pretrained, GenerationConfig and align_special_tokens of its
// Trainer.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "io/huggingface/tokenizer_files.hpp"
#include "lib/model/model_config.hpp"

namespace plumb {

struct ExportedText {
  TokenizerSource tokenizer;             // the files; its eos_token replaces theirs
  std::string chat_template = {};        // Jinja source in place of theirs; "": theirs
  std::optional<int32_t> eos_id = {};    // of the tokenizer: config.json and generation_config.json get it
  std::optional<int32_t> turn_end = {};  // of the template: generation_config.json lists it
};

/// The ids at which generation ends by generation_config.json of model and adapter; none without the file. Throws
/// DataError for ids that are no integers.
std::vector<int32_t> read_generation_ends(const TokenizerSource& source);

/// Sets eos_token_id of a config.json to this id unless it is there already. A list keeps its other ids.
void align_eos(nlohmann::json& config, std::optional<int32_t> eos_id);

/// About how much disk space write_text_files() needs.
int64_t text_files_bytes(const TokenizerSource& source);

/// Rank 0 only: writes all files but config.json. Those that nothing changes are copied. config: of the model. Throws
/// InputOutputError, and DataError for a file that is no JSON.
void write_text_files(const ExportedText& text, const ModelConfig& config, const std::string& temporary);

}  // namespace plumb
