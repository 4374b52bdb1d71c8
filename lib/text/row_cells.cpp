#include "lib/text/row_cells.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

using nlohmann::json;

constexpr size_t kMaxMessages = 4096;  // rendering is quadratic in the turns: each assistant turn renders its prefix

/// Null if the row has no cell for the role.
const json* find_cell(const json& row, const RowFormat& format, const char* role) {
  const auto column = format.columns.find(role);
  if (column == format.columns.end()) return nullptr;
  const auto cell = row.find(column->second);
  return cell == row.end() ? nullptr : &*cell;
}

/// Accepts both spellings of a turn: role and content, or ShareGPT's from and value.
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
  // templates render these too; ignoring them would train on a different conversation than the row's
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

}  // namespace

bool is_null_or_empty(const json& value) {
  return value.is_null() || value == "" || (value.is_structured() && value.empty());
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

std::string optional_text_cell(const json& row, const RowFormat& format, const char* role, std::string_view where) {
  const json* cell = find_cell(row, format, role);
  return cell == nullptr || cell->is_null() ? "" : text_cell(row, format, role, where);
}

double number_cell(const json& row, const RowFormat& format, const char* role, std::string_view where) {
  const json& cell = cell_of(row, format, role, where);
  double number = NAN;
  if (cell.is_number()) {
    number = cell.get<double>();
  } else if (cell.is_string()) {
    const std::string& text = cell.get_ref<const std::string&>();
    const char* end = text.data() + text.size();
    const auto [after, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || after != end) number = NAN;
  }
  if (!std::isfinite(number)) {
    throw_error<DataError>("{}: column \"{}\": expected a finite number, got {}", where, format.columns.at(role),
                           cell.is_structured() ? cell.type_name() : cell.dump());
  }
  return number;
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

void check_row(const json& row, const RowFormat& format, std::string_view where) {
  if (!row.is_object()) throw_error<DataError>("{}: expected an object, got {}", where, row.type_name());
  if (!format.holds_messages) return;
  for (const char* column : {"tools", "chat_template_kwargs"}) {
    if (const auto cell = row.find(column); cell != row.end() && !is_null_or_empty(*cell)) {
      throw_error<DataError>("{}: column \"{}\": expected none, got a value; it is not supported", where, column);
    }
  }
}

MarkedText plain_text(std::string text, bool parses_special_tokens) {
  MarkedText marked{std::move(text), {}};
  if (!parses_special_tokens && !marked.text.empty()) marked.user_ranges = {{0, marked.text.size()}};
  return marked;
}

MarkedText render_messages(const ChatTemplate& chat, std::span<const Message> messages, bool adds_generation_prompt,
                           bool parses_special_tokens, std::string_view where) {
  try {
    MarkedText marked = chat.render(messages, adds_generation_prompt);
    if (parses_special_tokens) marked.user_ranges.clear();
    return marked;
  } catch (const DataError& error) {
    throw_error<DataError>("{}: {}", where, error.what());
  }
}

const ChatTemplate& required_template(const ChatTemplate* chat, std::string_view where) {
  if (chat != nullptr) return *chat;
  throw_error<UsageError>("{}: the rows are conversations and the model has no chat template; name one of {}", where,
                          fmt::join(template_names(), ", "));
}

}  // namespace plumb
