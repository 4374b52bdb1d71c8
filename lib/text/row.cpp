#include "lib/text/row.hpp"

#include <span>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/text/row_cells.hpp"

namespace plumb {
namespace {

using nlohmann::json;

std::string_view default_template_name(RowShape shape) {
  if (shape == RowShape::kInstruction) return "alpaca";
  if (shape == RowShape::kQuestion) return "instructgpt";
  return "";
}

SftText plain_sft(std::optional<std::string> prompt, const std::string& rest, const SftOptions& options) {
  if (options.assistant_only_loss) {
    throw UsageError("assistant_only_loss: expected rows of messages, got plain text; only turns have an assistant");
  }
  SftText sft;
  sft.full = plain_text(prompt.value_or("") + rest, options.parses_special_tokens);
  if (prompt) sft.prompt = plain_text(std::move(*prompt), options.parses_special_tokens);
  sft.appends_eos = true;
  return sft;
}

/// The range that each assistant turn adds after its header.
std::vector<ByteRange> find_assistant_ranges(const ChatTemplate& chat, std::span<const Message> messages,
                                             const std::string& full, const SftOptions& options,
                                             std::string_view where) {
  std::vector<ByteRange> ranges;
  const bool parses = options.parses_special_tokens;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "assistant") continue;
    const std::string head = render_messages(chat, messages.first(i), true, parses, where).text;
    const std::string turn = render_messages(chat, messages.first(i + 1), false, parses, where).text;
    if (!turn.starts_with(head) || !full.starts_with(turn)) {
      throw_error<DataError>(
          "{}: assistant_only_loss: expected the template to render message {} alike whatever follows, got other text; "
          "use another template, or prompt+completion rows",
          where, i);
    }
    ranges.push_back({head.size(), turn.size()});
  }
  return ranges;
}

/// A `num_prompt_messages` of 0 means that there is no prompt.
SftText conversation_sft(std::span<const Message> messages, size_t num_prompt_messages, const ChatTemplate* chat,
                         const SftOptions& options, std::string_view where) {
  required_template(chat, where);
  const bool parses = options.parses_special_tokens;
  SftText sft;
  sft.full = render_messages(*chat, messages, false, parses, where);
  if (num_prompt_messages > 0) {
    sft.prompt = render_messages(*chat, messages.first(num_prompt_messages), true, parses, where);
  }
  if (options.assistant_only_loss) {
    sft.assistant_ranges = find_assistant_ranges(*chat, messages, sft.full.text, options, where);
  }
  sft.adds_special_tokens = !chat->renders_special_tokens();
  return sft;
}

}  // namespace

std::optional<RowTemplate> choose_template(const RowFormat& format, const Tokenizer& tokenizer,
                                           std::string_view template_name) {
  const std::string_view default_name = default_template_name(format.shape);
  if (default_name.empty() && !format.holds_messages) {
    if (template_name.empty()) return std::nullopt;
    throw_error<UsageError>("template {}: rows of {} are plain text, which no template renders", template_name,
                            name_of(format.shape));
  }
  if (template_name.empty() && !tokenizer.chat_template().empty()) {
    return RowTemplate{
        ChatTemplate::from_jinja(tokenizer.chat_template(), tokenizer.bos_token(), tokenizer.eos_token())};
  }
  const std::string_view name = template_name.empty() ? default_name : template_name;
  if (name.empty()) return std::nullopt;
  return RowTemplate{ChatTemplate::named(name, tokenizer.bos_token(), tokenizer.eos_token()), name == "alpaca"};
}

SftText render_sft(const json& row, const RowFormat& format, const RowTemplate* row_template, const SftOptions& options,
                   std::string_view where) {
  check_row(row, format, where);
  const auto text = [&](const char* role) -> const std::string& { return text_cell(row, format, role, where); };
  const ChatTemplate* chat = row_template == nullptr ? nullptr : &row_template->chat;
  std::vector<Message> messages;
  const auto add_system = [&] {
    std::string system = optional_text_cell(row, format, "system", where);
    if (!system.empty()) messages.push_back({"system", std::move(system)});
  };

  switch (format.shape) {
    case RowShape::kText:
      return plain_sft(std::nullopt, text("text"), options);
    case RowShape::kPromptCompletion: {
      if (!format.holds_messages) return plain_sft(text("prompt"), text("completion"), options);
      messages = messages_cell(row, format, "prompt", where);
      const size_t num_prompt_messages = messages.size();
      for (Message& message : messages_cell(row, format, "completion", where)) messages.push_back(std::move(message));
      return conversation_sft(messages, num_prompt_messages, chat, options, where);
    }
    case RowShape::kMessages:
      messages = messages_cell(row, format, "messages", where);
      return conversation_sft(messages, 0, chat, options, where);
    case RowShape::kInstruction: {
      add_system();
      messages.push_back({"user", text("instruction")});
      std::string input = optional_text_cell(row, format, "input", where);
      if (!input.empty() && chat != nullptr && row_template->has_input_turn) {
        messages.push_back({"input", std::move(input)});
      } else if (!input.empty()) {
        messages.back().content += "\n" + input;
      }
      messages.push_back({"assistant", text("output")});
      return conversation_sft(messages, messages.size() - 1, chat, options, where);
    }
    case RowShape::kQuestion:
      add_system();
      messages.push_back({"user", text("question")});
      messages.push_back({"assistant", text("answer")});
      return conversation_sft(messages, messages.size() - 1, chat, options, where);
    case RowShape::kPreference:
      break;
  }
  throw_error<UsageError>("{}: expected rows to fine-tune on, got preference pairs ({}); they are for reward and dpo",
                          where, name_of(format.shape));
}

}  // namespace plumb
