// What a model goes on from: one text or message, or the rows of a file without their answers.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "io/records/record_file.hpp"
#include "lib/model/model_config.hpp"
#include "lib/text/row.hpp"

namespace plumb {

struct Prompt {
  std::string text;
  std::vector<int32_t> token_ids;
};

struct PromptOptions {
  std::string columns;
  std::string chat_template;  // "": the model's own
  bool parses_special_tokens = false;
};

/// The user's message in the named template or the model's own, after the system message unless that is "". Without a
/// template the text as it is. Throws UsageError for a system message without a template, DataError for invalid UTF-8
/// and for more tokens than the model has positions.
Prompt make_prompt(const std::string& text, const std::string& system, const PromptOptions& options,
                   const Tokenizer& tokenizer, const ModelConfig& config);

/// Rows to go on from need no answer: one that is absent becomes empty, so that the row has one of the shapes of
/// training.
void add_missing_answer(nlohmann::json& row, const std::map<std::string, std::string>& columns);

/// Prompts of the rows of one file, rendered as training renders them; of a conversation, what comes before the
/// assistant's last turn. Rows need no answer. Keeps references to tokenizer and config.
class PromptReader {
 public:
  PromptReader(const std::string& path, const PromptOptions& options, const Tokenizer& tokenizer,
               const ModelConfig& config);

  /// Nothing after the last row. Throws DataError naming the row.
  std::optional<Prompt> next();

 private:
  RecordReader reader_;
  const Tokenizer& tokenizer_;
  const ModelConfig& config_;
  std::map<std::string, std::string> columns_;
  std::string template_name_;
  SftOptions options_;
  std::optional<RowFormat> format_;  // of the first row
  std::optional<RowTemplate> template_;
};

}  // namespace plumb
