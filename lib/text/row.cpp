#include "lib/text/row.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

using nlohmann::json;

constexpr size_t kMaxMessages = 4096;  // turns are rendered again for every assistant's turn: quadratic

std::string_view default_template_name(RowShape shape) {
  if (shape == RowShape::kInstruction) return "alpaca";
  if (shape == RowShape::kQuestion) return "instructgpt";
  return "";
}

bool is_null_or_empty(const json& value) {
  return value.is_null() || value == "" || (value.is_structured() && value.empty());
}

/// Null where the row has no cell for the role.
const json* find_cell(const json& row, const RowFormat& format, const char* role) {
  const auto column = format.columns.find(role);
  if (column == format.columns.end()) return nullptr;
  const auto cell = row.find(column->second);
  return cell == row.end() ? nullptr : &*cell;
}

const json& cell_of(const json& row, const RowFormat& format, const char* role, std::string_view where) {
  if (const json* cell = find_cell(row, format, role)) return *cell;
  std::vector<std::string> columns;
  for (const auto& item : row.items()) columns.push_back(item.key());
  throw_error<DataError>("{}: expected a column \"{}\" as in the first row, got columns: {}", where,
                         format.columns.at(role), fmt::join(columns, ", "));
}

const std::string& text_cell(const json& row, const RowFormat& format, const char* role, std::string_view where) {
  const json& cell = cell_of(row, format, role, where);
  if (!cell.is_string()) {
    throw_error<DataError>("{}: column \"{}\": expected text, got {}", where, format.columns.at(role),
                           cell.type_name());
  }
  return cell.get_ref<const std::string&>();
}

/// Empty for a column that is absent or null: tables made of rows that differ are filled up with nulls.
std::string optional_text_cell(const json& row, const RowFormat& format, const char* role, std::string_view where) {
  const json* cell = find_cell(row, format, role);
  return cell == nullptr || cell->is_null() ? "" : text_cell(row, format, role, where);
}

/// Both ways to write a turn: role and content, or ShareGPT's from and value.
Message parse_message(const json& turn, const std::string& where) {
  if (!turn.is_object()) throw_error<DataError>("{}: expected an object, got {}", where, turn.type_name());
  const bool is_sharegpt = turn.contains("from") && !turn.contains("role");
  const auto text_of = [&](const char* key) -> const std::string& {
    const auto value = turn.find(key);
    if (value == turn.end()) {
      throw_error<DataError>("{}: expected the keys role and content (or from and value), got no \"{}\"", where, key);
    }
    if (!value->is_string()) throw_error<DataError>("{}: {}: expected text, got {}", where, key, value->type_name());
    return value->get_ref<const std::string&>();
  };
  // Templates render these too; without them the row would be trained as another conversation than it is.
  for (const char* key : {"tool_calls", "reasoning_content", "thinking"}) {
    if (const auto value = turn.find(key); value != turn.end() && !is_null_or_empty(*value)) {
      throw_error<DataError>("{}: {}: expected role and content only, got a value; it is not supported", where, key);
    }
  }
  constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kRoles = {
      {{"system", "system"}, {"user", "user"}, {"human", "user"}, {"assistant", "assistant"}, {"gpt", "assistant"}}};
  const std::string& role = text_of(is_sharegpt ? "from" : "role");
  const auto known = std::find_if(kRoles.begin(), kRoles.end(), [&](const auto& entry) { return entry.first == role; });
  if (known == kRoles.end()) {
    throw_error<DataError>("{}: expected a role among system, user, assistant, human, gpt; got \"{}\"", where, role);
  }
  return {std::string(known->second), text_of(is_sharegpt ? "value" : "content")};
}

std::vector<Message> messages_cell(const json& row, const RowFormat& format, const char* role, std::string_view where) {
  const json& cell = cell_of(row, format, role, where);
  const std::string place = fmt::format("{}: column \"{}\"", where, format.columns.at(role));
  if (!cell.is_array()) {
    throw_error<DataError>("{}: expected a list of messages, got {}{}", place, cell.type_name(),
                           cell.is_string() ? "; tables hold text only, use JSON Lines for conversations" : "");
  }
  if (cell.empty() || cell.size() > kMaxMessages) {
    throw_error<DataError>("{}: expected 1 to {} messages, got {}", place, kMaxMessages, cell.size());
  }
  std::vector<Message> messages;
  for (const json& turn : cell) {
    messages.push_back(parse_message(turn, fmt::format("{}: message {}", place, messages.size())));
  }
  return messages;
}

MarkedText plain_text(std::string text, const SftOptions& options) {
  MarkedText marked{std::move(text), {}};
  if (!options.parses_special_tokens && !marked.text.empty()) marked.user_ranges = {{0, marked.text.size()}};
  return marked;
}

SftText plain_sft(std::optional<std::string> prompt, const std::string& rest, const SftOptions& options) {
  if (options.assistant_only_loss) {
    throw UsageError("assistant_only_loss: expected rows of messages, got plain text; only turns have an assistant");
  }
  SftText sft;
  sft.full = plain_text(prompt.value_or("") + rest, options);
  if (prompt) sft.prompt = plain_text(std::move(*prompt), options);
  sft.appends_eos = true;
  return sft;
}

MarkedText render(const ChatTemplate& chat, std::span<const Message> messages, bool adds_generation_prompt,
                  const SftOptions& options, std::string_view where) {
  try {
    MarkedText marked = chat.render(messages, adds_generation_prompt);
    if (options.parses_special_tokens) marked.user_ranges.clear();
    return marked;
  } catch (const DataError& error) {
    throw_error<DataError>("{}: {}", where, error.what());
  }
}

/// What each assistant's turn adds behind the header that asks for it.
std::vector<ByteRange> find_assistant_ranges(const ChatTemplate& chat, std::span<const Message> messages,
                                             const std::string& full, const SftOptions& options,
                                             std::string_view where) {
  std::vector<ByteRange> ranges;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "assistant") continue;
    const std::string head = render(chat, messages.first(i), true, options, where).text;
    const std::string turn = render(chat, messages.first(i + 1), false, options, where).text;
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

/// `num_prompt_messages` of 0: there is no prompt.
SftText conversation_sft(std::span<const Message> messages, size_t num_prompt_messages, const ChatTemplate* chat,
                         const SftOptions& options, std::string_view where) {
  if (chat == nullptr) {
    throw_error<UsageError>("{}: the rows are conversations and the model has no chat template; name one of {}", where,
                            fmt::join(template_names(), ", "));
  }
  SftText sft;
  sft.full = render(*chat, messages, false, options, where);
  if (num_prompt_messages > 0) sft.prompt = render(*chat, messages.first(num_prompt_messages), true, options, where);
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
  if (!row.is_object()) throw_error<DataError>("{}: expected an object, got {}", where, row.type_name());
  if (format.holds_messages) {
    for (const char* column : {"tools", "chat_template_kwargs"}) {
      if (const auto cell = row.find(column); cell != row.end() && !is_null_or_empty(*cell)) {
        throw_error<DataError>("{}: column \"{}\": expected none, got a value; it is not supported", where, column);
      }
    }
  }
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
