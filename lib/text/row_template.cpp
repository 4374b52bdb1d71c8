#include "lib/text/row_template.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/base/strict_json.hpp"
#include "lib/text/own_template.hpp"
#include "lib/text/row_cells.hpp"
#include "lib/text/turn_end.hpp"

namespace plumb {
namespace {

using json = nlohmann::ordered_json;

/// Instructions and questions, pairs of answers to them too, have one.
std::string_view default_template_name(const RowFormat& format) {
  if (format.columns.contains("instruction")) return "alpaca";
  if (format.columns.contains("question")) return "instructgpt";
  return "";
}

}  // namespace

std::vector<std::string> RowTemplate::unread_variables() const {
  std::vector<std::string> names = chat.unread_variables();
  if (with_tools == nullptr) return names;
  const std::vector<std::string> others = with_tools->chat.unread_variables();
  std::erase_if(names, [&](const auto& name) { return std::find(others.begin(), others.end(), name) == others.end(); });
  return names;
}

bool RowTemplate::reads(const std::string& variable) const {
  return chat.reads(variable) || (with_tools != nullptr && with_tools->chat.reads(variable));
}

json parse_template_variables(std::string_view text) {
  if (text.empty()) return json::object();
  const auto fail = [&](std::string_view got) {
    throw_error<UsageError>(
        "--chat_template_kwargs: expected a JSON object such as {{\"enable_thinking\": false}}, got {}", got);
  };
  const json variables = parse_strict_json<json>(
      text, [&](std::optional<size_t>, const std::string& reason) { fail(fmt::format("{:.80}: {}", text, reason)); });
  if (!variables.is_object()) fail(text.substr(0, 80));
  for (const char* name : kTemplateVariables) {
    if (variables.contains(name))
      throw_error<UsageError>(
          "--chat_template_kwargs: expected options of the template, got \"{}\", which rows give it", name);
  }
  return variables;
}

std::string_view name_of_template(const RowFormat& format, const Tokenizer& tokenizer, std::string_view template_name) {
  if (!format.is_conversation) return "";
  if (!template_name.empty()) return template_name;
  return tokenizer.chat_template().empty() ? default_template_name(format) : "";
}

std::optional<RowTemplate> choose_template(const RowFormat& format, const Tokenizer& tokenizer,
                                           std::string_view template_name, std::string_view template_variables) {
  const json variables = parse_template_variables(template_variables);
  if (!format.is_conversation) {
    if (!template_variables.empty())
      throw_error<UsageError>("--chat_template_kwargs: rows of {} are plain text, which no template renders",
                              name_of(format.shape));
    if (template_name.empty()) return std::nullopt;
    throw_error<UsageError>("template {}: rows of {} are plain text, which no template renders", template_name,
                            name_of(format.shape));
  }
  const std::string_view name = name_of_template(format, tokenizer, template_name);
  const auto make = [&](const ChatTemplate& chat, bool has_input_turn) {
    return RowTemplate{chat.with_variables(variables), has_input_turn, find_turn_end(chat, tokenizer).id};
  };
  const std::optional<ChatTemplate> chat = ChatTemplate::find(tokenizer, name);
  if (!chat) return std::nullopt;
  RowTemplate chosen =
      make(*chat, name == "alpaca" || (name.empty() && is_own_form_of("alpaca", tokenizer.chat_template())));
  if (name.empty() && !tokenizer.tool_template().empty()) {
    const auto tools = ChatTemplate::from_jinja(tokenizer.tool_template(), tokenizer.special_tokens());
    chosen.with_tools = std::make_shared<const RowTemplate>(make(tools, false));
  }
  return chosen;
}

const RowTemplate& required_template(const RowTemplate* row_template, const TemplateInputs& inputs,
                                     std::string_view where) {
  if (row_template == nullptr)
    throw_error<UsageError>("{}: the rows are conversations and the model has no chat template; name one of {}", where,
                            fmt::join(template_names(), ", "));
  const bool has_other = row_template->with_tools != nullptr && !inputs.tools.is_null();
  return has_other ? *row_template->with_tools : *row_template;
}

}  // namespace plumb
