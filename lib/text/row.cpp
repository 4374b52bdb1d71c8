#include "lib/text/row.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/text/assistant_turns.hpp"
#include "lib/text/conversation.hpp"
#include "lib/text/row_cells.hpp"
#include "lib/text/text_end.hpp"

namespace plumb {
namespace {

using json = nlohmann::ordered_json;

/// Null for conversations whose answers are among their messages.
const char* answer_role(RowShape shape) {
  if (shape == RowShape::kPromptCompletion) return "completion";
  if (shape == RowShape::kInstruction) return "output";
  return shape == RowShape::kQuestion ? "answer" : nullptr;
}

SftText plain_sft(std::optional<std::string> prompt, const std::string& rest, const SftOptions& options) {
  if (options.assistant_only_loss) {
    throw UsageError("assistant_only_loss: expected rows of messages, got plain text; only turns have an assistant");
  }
  SftText sft;
  sft.full = plain_text(prompt.value_or("") + rest, options.parses_special_tokens);
  sft.asks_nothing = prompt && is_blank(*prompt);
  if (prompt) sft.prompt = plain_text(std::move(*prompt), options.parses_special_tokens);
  sft.appends_eos = true;
  return sft;
}

bool omits_message(std::span<const Message> messages, const RenderedChat& rendered) {
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!is_blank(messages[i].content) && rendered.contents[i].end == 0) return true;
  }
  return false;
}

/// A `num_prompt` of 0 means that there is no prompt.
SftText conversation_sft(std::span<const Message> messages, size_t num_prompt, const RowTemplate* row_template,
                         const TemplateInputs& inputs, const SftOptions& options, std::string_view where) {
  const RowTemplate& given = required_template(row_template, inputs, where);
  const ChatTemplate chat = options.assistant_only_loss ? given.chat.for_training() : given.chat;
  const bool parses = options.parses_special_tokens;
  RenderedChat rendered = render_messages(chat, messages, false, inputs, parses, where);
  SftText sft;
  if (num_prompt > 0) sft.prompt = render_messages(chat, messages.first(num_prompt), true, inputs, parses, where).text;
  const bool has_marks = std::any_of(messages.begin(), messages.end(),
                                     [](const Message& message) { return !message.is_trained.value_or(true); });
  if (options.assistant_only_loss || has_marks) {
    AssistantTurns turns = find_assistant_turns(chat, messages, inputs, rendered, where);
    if (options.assistant_only_loss) sft.assistant_ranges = std::move(turns.trained);
    sft.untrained_ranges = std::move(turns.untrained);
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const bool is_marked = messages[i].role != "assistant" && !messages[i].is_trained.value_or(true);
    if (is_marked) sft.untrained_ranges.push_back(rendered.contents[i]);
  }
  sft.omits_message = omits_message(messages, rendered);
  sft.asks_nothing = asks_nothing(messages.first(num_prompt));
  sft.full = std::move(rendered.text);
  sft.adds_special_tokens = !chat.renders_special_tokens();
  sft.turn_end = given.turn_end;
  return sft;
}

}  // namespace

SftText render_sft(const json& row, const RowFormat& format, const RowTemplate* row_template, const SftOptions& options,
                   std::string_view where) {
  check_row(row, format, where);
  if (format.shape == RowShape::kPreference) {
    throw_error<UsageError>("{}: expected rows to fine-tune on, got preference pairs ({}); they are for reward and dpo",
                            where, name_of(format.shape));
  }
  const auto text = [&](const char* role) -> const std::string& { return text_cell(row, format, role, where); };
  if (!format.is_conversation) {
    if (format.shape == RowShape::kText) return plain_sft(std::nullopt, text("text"), options);
    return plain_sft(text("prompt"), text("completion"), options);
  }
  const bool has_input_turn = row_template != nullptr && row_template->has_input_turn;
  std::vector<Message> messages = context_turns(row, format, has_input_turn, where);
  size_t num_prompt = 0;
  if (const char* role = answer_role(format.shape)) {
    num_prompt = messages.size();
    for (Message& message : answer_turns(row, format, role, where)) messages.push_back(std::move(message));
  }
  return conversation_sft(messages, num_prompt, row_template, template_inputs(row, format, where), options, where);
}

PromptText render_prompt(const json& row, const RowFormat& format, const RowTemplate* row_template,
                         const SftOptions& options, std::string_view where) {
  check_row(row, format, where);
  const bool parses = options.parses_special_tokens;
  if (!format.is_conversation) {
    const char* role = format.shape == RowShape::kText ? "text" : "prompt";
    return {plain_text(text_cell(row, format, role, where), parses)};
  }
  const bool has_input_turn = row_template != nullptr && row_template->has_input_turn;
  const TemplateInputs inputs = template_inputs(row, format, where);
  const ChatTemplate& chat = required_template(row_template, inputs, where).chat;
  const std::vector<Message> messages = question_turns(row, format, has_input_turn, where);
  return {render_messages(chat, messages, true, inputs, parses, where).text, !chat.renders_special_tokens()};
}

}  // namespace plumb
