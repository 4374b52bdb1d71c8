// The chat template that renders the rows of a file: the named one, the model's own, or the default of their shape.
// Source: transformers, get_chat_template: rows with tools take the model's template tool_use, if it has one.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/text/chat_template.hpp"
#include "lib/text/row_format.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

struct RowTemplate {
  ChatTemplate chat;
  bool has_input_turn = false;  // alpaca: an instruction's input is a turn of role "input", not part of the user turn
  std::optional<int32_t> turn_end = std::nullopt;  // the control token that ends the assistant's turns, if there is one
  std::shared_ptr<const RowTemplate> with_tools = nullptr;  // renders rows that have tools; null: this one does

  /// The names of the options given to the template that no rendering reads.
  std::vector<std::string> unread_variables() const;
  /// True if a rendering reads this variable.
  bool reads(const std::string& variable) const;
};

/// A JSON object of options of a template, as --chat_template_kwargs has it; "" is an empty one. Throws UsageError.
nlohmann::ordered_json parse_template_variables(std::string_view text);

/// The name of the template for these rows: the given one, else the default of their shape; "" where the tokenizer's
/// own renders them or none does.
std::string_view name_of_template(const RowFormat& format, const Tokenizer& tokenizer, std::string_view template_name);

/// The template for these rows: the named one, else the model's own, else alpaca for instruction rows and instructgpt
/// for question rows. None for rows of plain text; throws UsageError if a template is named for them.
/// `template_variables`, as parse_template_variables() reads them, are what it sees in each row that has no others.
std::optional<RowTemplate> choose_template(const RowFormat& format, const Tokenizer& tokenizer,
                                           std::string_view template_name = {},
                                           std::string_view template_variables = {});

/// The template of one row. Throws UsageError that lists templates if `row_template` is null.
const RowTemplate& required_template(const RowTemplate* row_template, const TemplateInputs& inputs,
                                     std::string_view where);

}  // namespace plumb
