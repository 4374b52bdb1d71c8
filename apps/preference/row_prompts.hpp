// Rows of any shape as prompts for a model: the question of the row, in the form of the prompt of a preference pair,
// and as token ids.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/options/options.hpp"
#include "lib/model/model_config.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

struct RowPrompt {
  int64_t source_row = 0;          // number among the rows of all files
  nlohmann::ordered_json prompt;   // text, or a list of messages
  nlohmann::ordered_json inputs;   // further columns that a template sees: tools, chat_template_kwargs
  std::vector<int32_t> token_ids;  // including the header of the answer's turn

  bool holds_messages() const { return prompt.is_array(); }
  /// An answer as a cell of a row of preference pairs.
  nlohmann::ordered_json answer_cell(const std::string& text) const;
  /// The prompt as human-readable text.
  std::string text() const;
};

struct RowPrompts {
  std::vector<RowPrompt> prompts;
  int64_t num_rows = 0;      // read
  int64_t num_empty = 0;     // skipped: no question
  int64_t num_too_long = 0;  // skipped: no room for an answer

  std::vector<std::vector<int32_t>> token_ids() const;
};

/// The prompts of the first max_rows rows of the files (-1: all), rendered for the model of this tokenizer. For pairs
/// without a prompt, the common beginning of both texts; for a conversation, the turns before the assistant's last one.
/// Instructions and questions become messages if a chat template renders them, else text. Rows need no answer. Throws
/// DataError that names the row, also if some rows are conversations and others text; UsageError.
RowPrompts read_row_prompts(const std::vector<std::string>& files, const DataOptions& data, const Tokenizer& tokenizer,
                            const ModelConfig& config, int64_t max_rows);

}  // namespace plumb
