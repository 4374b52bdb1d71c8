// Rows of any shape as prompts for a model: what asks, in the columns of a preference pair, and as token ids.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/options/options.hpp"
#include "lib/base/named.hpp"
#include "lib/model/model_config.hpp"
#include "lib/text/row_format.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

/// Instructions and questions stay what they are where the template of their shape renders them.
enum class PromptForm { kText, kMessages, kInstruction, kQuestion };
template <>
inline constexpr auto kNames<PromptForm> = std::to_array<Named<PromptForm>>({{"text", PromptForm::kText},
                                                                             {"messages", PromptForm::kMessages},
                                                                             {"instruction", PromptForm::kInstruction},
                                                                             {"question", PromptForm::kQuestion}});

/// The format of a pair that answers a prompt of this form, whose columns have the names of their roles.
RowFormat pair_format(PromptForm form);

struct RowPrompt {
  int64_t source_row = 0;  // number among the rows of all files
  PromptForm form = PromptForm::kText;
  nlohmann::ordered_json columns;   // of a pair without its answers: prompt, or instruction and input; tools, ...
  std::vector<int32_t> token_ids;   // including the header of the answer's turn
  nlohmann::ordered_json row = {};  // as read, where it is kept

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
/// Rows need no answer. keeps_rows: for rewards that read other columns. Throws DataError that names the row, also if
/// rows have different forms; UsageError.
RowPrompts read_row_prompts(const std::vector<std::string>& files, const DataOptions& data, const Tokenizer& tokenizer,
                            const ModelConfig& config, int64_t max_rows, bool keeps_rows = false);

}  // namespace plumb
