// Prompts for generation: one text or message, or the rows of a file without their answers.
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
  std::string chat_template;              // empty: the model's own
  std::string chat_template_kwargs = {};  // a JSON object, or empty
  bool parses_special_tokens = false;
};

/// The text as the user's message in the named chat template or the model's own, after the system message unless it is
/// "". Without a template, the plain text. Throws UsageError for a system message without a template, DataError for
/// invalid UTF-8 and for more tokens than the model has positions.
Prompt make_prompt(const std::string& text, const std::string& system, const PromptOptions& options,
                   const Tokenizer& tokenizer, const ModelConfig& config);

/// Adds an empty answer to a row that has none, so that it has one of the shapes of training rows.
void add_missing_answer(nlohmann::ordered_json& row, const std::map<std::string, std::string>& columns);

/// The prompts of the rows of one file, rendered as in training; of a conversation, the turns before the assistant's
/// last one. Rows need no answer. Tokenizer and config must outlive this object.
class PromptReader {
 public:
  PromptReader(const std::string& path, const PromptOptions& options, const Tokenizer& tokenizer,
               const ModelConfig& config);

  /// The prompt of the next row; nullopt after the last one. Throws DataError that names the row.
  std::optional<Prompt> next();

 private:
  RecordReader reader_;
  const Tokenizer& tokenizer_;
  const ModelConfig& config_;
  std::map<std::string, std::string> columns_;
  std::string template_name_;
  std::string template_variables_;
  SftOptions options_;
  std::optional<RowFormat> format_;  // determined by the first row
  std::optional<RowTemplate> template_;
};

}  // namespace plumb
