// Rows of any shape as prompts for a model to answer: what the row asks, in the form in which preference pairs say it,
// and as token ids for the model.
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
  int64_t source_row = 0;          // among the rows of all files
  nlohmann::json prompt;           // text, or a list of messages
  std::vector<int32_t> token_ids;  // with the header of the answer's turn

  bool holds_messages() const { return prompt.is_array(); }
  /// An answer as a cell of a row of pairs.
  nlohmann::json answer_cell(const std::string& text) const;
  /// For people to read.
  std::string text() const;
};

struct RowPrompts {
  std::vector<RowPrompt> prompts;
  int64_t num_rows = 0;      // read
  int64_t num_empty = 0;     // left out: rows that ask nothing
  int64_t num_too_long = 0;  // left out: no place for an answer

  std::vector<std::vector<int32_t>> token_ids() const;
};

/// The first max_rows rows of the files (all: -1), rendered for the model whose tokenizer this is. Of pairs without a
/// prompt, what both texts begin with; of a conversation, what comes before the assistant's last turn. Instructions and
/// questions become messages where a chat template renders them, else text. Rows need no answer. Throws DataError
/// naming the row, also where some rows are conversations and others text; UsageError.
RowPrompts read_row_prompts(const std::vector<std::string>& files, const DataOptions& data, const Tokenizer& tokenizer,
                            const ModelConfig& config, int64_t max_rows);

}  // namespace plumb
