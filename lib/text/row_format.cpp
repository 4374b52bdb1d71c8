#include "lib/text/row_format.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>

#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"
#include "lib/text/turns.hpp"

namespace plumb {
namespace {

using json = nlohmann::ordered_json;

struct Shape {
  RowShape shape;
  std::string_view name;
  std::vector<std::string> required;
  std::vector<std::string> optional;

  bool has_role(const std::string& role) const;
};

/// In the order in which they are tried. Text is last because tables often keep a rendered copy in it.
const std::vector<Shape>& known_shapes() {
  static const std::vector<Shape> kShapes = {
      {RowShape::kPreference,
       "prompt+chosen+rejected",
       {"chosen", "rejected"},
       {"prompt", "messages", "instruction", "input", "question", "margin"}},
      {RowShape::kPromptCompletion, "prompt+completion", {"prompt", "completion"}, {}},
      {RowShape::kMessages, "messages (or conversations)", {"messages"}, {}},
      {RowShape::kInstruction, "instruction+input+output", {"instruction", "output"}, {"input"}},
      {RowShape::kQuestion, "system+question+answer", {"question", "answer"}, {}},
      {RowShape::kText, "text", {"text"}, {}},
  };
  return kShapes;
}

/// Roles of conversations of any shape. Text has no place for them.
const std::vector<std::string>& context_roles() {
  static const std::vector<std::string> kRoles = {"system", "history", "tools", "chat_template_kwargs"};
  return kRoles;
}

bool Shape::has_role(const std::string& role) const {
  const auto has = [&](const std::vector<std::string>& roles) {
    return std::find(roles.begin(), roles.end(), role) != roles.end();
  };
  return has(required) || has(optional) || (shape != RowShape::kText && has(context_roles()));
}

/// The roles that may hold the prompt of a pair; the first that a row has counts.
constexpr std::array<const char*, 4> kAskingRoles = {"prompt", "messages", "instruction", "question"};

/// Names that other trainers read.
constexpr std::array<std::string_view, 37> kKnownColumns = {"system",
                                                            "system_prompt",
                                                            "history",
                                                            "tools",
                                                            "functions",
                                                            "function_call",
                                                            "image",
                                                            "images",
                                                            "video",
                                                            "videos",
                                                            "audio",
                                                            "audios",
                                                            "objects",
                                                            "weight",
                                                            "weights",
                                                            "label",
                                                            "labels",
                                                            "kto_tag",
                                                            "input",
                                                            "context",
                                                            "documents",
                                                            "input_ids",
                                                            "attention_mask",
                                                            "completion_mask",
                                                            "assistant_masks",
                                                            "chosen",
                                                            "rejected",
                                                            "messages",
                                                            "conversations",
                                                            "prompt",
                                                            "completion",
                                                            "rejected_response",
                                                            "rejected_messages",
                                                            "margin",
                                                            "chat_template_kwargs",
                                                            "instruction",
                                                            "question"};

std::vector<std::string> known_roles() {
  std::vector<std::string> roles;
  for (const Shape& shape : known_shapes()) {
    for (const auto* list : {&shape.required, &shape.optional}) {
      for (const std::string& role : *list) {
        if (std::find(roles.begin(), roles.end(), role) == roles.end()) roles.push_back(role);
      }
    }
  }
  roles.insert(roles.end(), context_roles().begin(), context_roles().end());
  return roles;
}

bool serves(RowShape shape, RowUse use) {
  return use == RowUse::kAny || (use == RowUse::kPreference) == (shape == RowShape::kPreference);
}

/// The overrides by role, with "conversations" folded into "messages".
std::map<std::string, std::string> checked_override(const std::map<std::string, std::string>& columns_override,
                                                    const std::vector<std::string>& columns) {
  const std::vector<std::string> roles = known_roles();
  std::map<std::string, std::string> by_role;
  std::map<std::string, std::string> by_column;
  for (const auto& [given_role, column] : columns_override) {
    const std::string role = given_role == "conversations" ? "messages" : given_role;
    if (std::find(roles.begin(), roles.end(), role) == roles.end()) {
      throw_error<UsageError>("columns: unknown role \"{}\"; known: {}{}", given_role, fmt::join(roles, ", "),
                              did_you_mean(given_role, roles, "\"", "\""));
    }
    if (std::find(columns.begin(), columns.end(), column) == columns.end()) {
      throw_error<UsageError>("columns: {}={}: the data has no column \"{}\", only {}{}", given_role, column, column,
                              fmt::join(columns, ", "), did_you_mean(column, columns, "\"", "\""));
    }
    if (!by_role.emplace(role, column).second) {
      throw_error<UsageError>("columns: expected one column for \"{}\", got several", role);
    }
    if (const auto [slot, is_new] = by_column.emplace(column, role); !is_new) {
      throw_error<UsageError>("columns: column \"{}\" is given two roles, {} and {}", column, slot->second, role);
    }
  }
  return by_role;
}

[[noreturn]] void throw_no_shape(const std::vector<std::string>& columns, bool is_overridden, std::string_view where,
                                 RowUse use) {
  std::vector<std::string_view> names;
  for (const Shape& shape : known_shapes()) {
    if (serves(shape.shape, use)) names.push_back(shape.name);
  }
  const std::vector<std::string> roles = known_roles();
  std::string hint;
  for (const std::string& column : columns) {
    if (!hint.empty() || std::find(roles.begin(), roles.end(), column) != roles.end()) continue;
    const std::string nearest = nearest_name(column, roles);
    if (!nearest.empty()) hint = fmt::format("is \"{0}\" meant as {1}? then --columns {1}={0}", column, nearest);
  }
  const auto has_column = [&](std::string_view name) {
    return std::find(columns.begin(), columns.end(), name) != columns.end();
  };
  if (use == RowUse::kSft && has_column("chosen") && has_column("rejected")) hint = "pairs are for reward and dpo";
  for (const Shape& shape : known_shapes()) {
    const bool fits = std::all_of(shape.required.begin(), shape.required.end(),
                                  [&](const std::string& role) { return has_column(role); });
    if (use == RowUse::kPreference && shape.shape != RowShape::kPreference && fits) hint = "these are rows for sft";
  }
  if (hint.empty()) hint = "name them with --columns role=name,...";
  const std::string message = fmt::format("{}: expected the columns of {} rows: {}; got columns: {}; {}", where,
                                          use == RowUse::kAny ? "known" : (use == RowUse::kSft ? "SFT" : "preference"),
                                          fmt::join(names, ", "), fmt::join(columns, ", "), hint);
  if (is_overridden) throw UsageError(message);
  throw DataError(message);
}

/// Binds the roles of one shape to columns of the first row.
class Binder {
 public:
  Binder(const Shape& shape, const json& first_row, const std::map<std::string, std::string>& by_role)
      : shape_(shape), first_row_(first_row), by_role_(by_role) {
    format_.shape = shape.shape;
  }

  /// None if a required column is missing, or null unless `accepts_null`.
  std::optional<RowFormat> bind(bool accepts_null) {
    for (const std::string& role : shape_.required) {
      const std::string column = column_of(role);
      if (!is_free(role, column) || !first_row_.contains(column)) return std::nullopt;
      if (!accepts_null && !is_here(column)) return std::nullopt;
      format_.columns[role] = column;
    }
    for (const std::string& role : shape_.optional) {
      if (!is_asking_role(role)) bind_optional(role);
    }
    if (shape_.shape == RowShape::kPreference) bind_asking_role();
    format_.is_conversation = is_conversation();
    for (const std::string& role : context_roles()) {
      if (shape_.shape != RowShape::kText && format_.is_conversation) bind_optional(role);
    }
    return std::move(format_);
  }

 private:
  std::string column_of(const std::string& role) const {
    const auto overridden = by_role_.find(role);
    if (overridden != by_role_.end()) return overridden->second;
    return role == "messages" && !is_here(role) && is_here("conversations") ? "conversations" : role;
  }
  bool is_here(const std::string& column) const {
    return first_row_.contains(column) && !first_row_.at(column).is_null();
  }
  /// True unless the user gave the column another role.
  bool is_free(const std::string& role, const std::string& column) const {
    return by_role_.contains(role) ||
           std::none_of(by_role_.begin(), by_role_.end(), [&](const auto& entry) { return entry.second == column; });
  }
  bool is_asking_role(const std::string& role) const {
    return shape_.shape == RowShape::kPreference &&
           (role == "input" || std::find(kAskingRoles.begin(), kAskingRoles.end(), role) != kAskingRoles.end());
  }

  void bind_optional(const std::string& role) {
    const std::string column = column_of(role);
    // a pair without its margin is a different pair: the first row decides for all rows
    const bool may_start_later = role != "margin";
    if (is_free(role, column) && (may_start_later || is_here(column))) format_.columns[role] = column;
  }

  void bind_asking_role() {
    const auto bind_if = [&](const char* role, bool may_bind) {
      const std::string column = column_of(role);
      if (!may_bind || !is_free(role, column) || !is_here(column)) return false;
      format_.columns[role] = column;
      if (role == std::string_view("instruction")) bind_optional("input");
      return true;
    };
    // what the user names goes before what is only there
    for (const char* role : kAskingRoles) {
      if (bind_if(role, by_role_.contains(role))) return;
    }
    for (const char* role : kAskingRoles) {
      if (bind_if(role, true)) return;
    }
  }

  bool is_conversation() const {
    if (shape_.shape == RowShape::kText) return false;
    const auto has = [&](const char* role) { return format_.columns.contains(role); };
    if (has("messages") || has("instruction") || has("question")) return true;
    for (const std::string& role : context_roles()) {
      if (by_role_.contains(role)) return true;
    }
    return std::any_of(format_.columns.begin(), format_.columns.end(), [&](const auto& entry) {
      const auto cell = first_row_.find(entry.second);
      return cell != first_row_.end() && cell->is_structured();
    });
  }

  const Shape& shape_;
  const json& first_row_;
  const std::map<std::string, std::string>& by_role_;
  RowFormat format_;
};

void collect_texts(const json& value, std::vector<std::string>& texts) {
  if (value.is_string()) texts.push_back(value.get<std::string>());
  if (!value.is_structured()) return;
  for (const json& part : value) collect_texts(part, texts);
}

/// True if all texts of the cell are within those of the used columns: datasets keep copies.
bool is_copy(const json& cell, const json& row, const RowFormat& format) {
  std::vector<std::string> texts, used;
  collect_texts(cell, texts);
  for (const auto& [role, column] : format.columns) {
    if (row.contains(column)) collect_texts(row.at(column), used);
  }
  return !texts.empty() && std::all_of(texts.begin(), texts.end(), [&](const std::string& text) {
    return std::any_of(used.begin(), used.end(),
                       [&](const std::string& whole) { return whole.find(text) != whole.npos; });
  });
}

void list_unused_columns(const json& first_row, RowFormat& format) {
  for (const auto& [column, cell] : first_row.items()) {
    const std::string& name = column;
    const bool is_used = std::any_of(format.columns.begin(), format.columns.end(),
                                     [&](const auto& entry) { return entry.second == name; });
    if (is_used) continue;
    format.unused_columns.push_back(name);
    if (is_known_column(name) && !is_null_or_empty(cell) && !is_copy(cell, first_row, format)) {
      format.dropped_columns.push_back(name);
    }
  }
}

}  // namespace

bool is_known_column(std::string_view column) {
  return std::find(kKnownColumns.begin(), kKnownColumns.end(), column) != kKnownColumns.end();
}

bool has_required_cells(const json& row, const RowFormat& format) {
  const auto is_null = [&](const std::string& role) {
    const auto cell = row.find(format.columns.at(role));
    return cell != row.end() && cell->is_null();
  };
  for (const Shape& known : known_shapes()) {
    if (known.shape == format.shape) return std::none_of(known.required.begin(), known.required.end(), is_null);
  }
  return true;
}

std::string_view name_of(RowShape shape) {
  for (const Shape& known : known_shapes()) {
    if (known.shape == shape) return known.name;
  }
  return "unknown";
}

std::map<std::string, std::string> parse_columns_option(std::string_view option) {
  std::map<std::string, std::string> columns;
  while (!option.empty()) {
    const size_t comma = std::min(option.find(','), option.size());
    const std::string_view item = option.substr(0, comma);
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos || equals == 0 || equals + 1 == item.size()) {
      throw_error<UsageError>("columns: expected role=name,role=name, got \"{}\"", item);
    }
    const std::string role(item.substr(0, equals));
    if (!columns.emplace(role, item.substr(equals + 1)).second) {
      throw_error<UsageError>("columns: expected each role once, got \"{}\" twice", role);
    }
    option.remove_prefix(std::min(comma + 1, option.size()));
  }
  return columns;
}

RowFormat find_row_format(const json& first_row, const std::map<std::string, std::string>& columns_override,
                          std::string_view where, RowUse use) {
  if (!first_row.is_object()) throw_error<DataError>("{}: expected an object, got {}", where, first_row.type_name());
  std::vector<std::string> columns;
  for (const auto& item : first_row.items()) columns.push_back(item.key());
  const std::map<std::string, std::string> by_role = checked_override(columns_override, columns);
  for (const bool accepts_null : {false, true}) {
    for (const Shape& shape : known_shapes()) {
      const bool has_roles =
          std::all_of(by_role.begin(), by_role.end(), [&](const auto& entry) { return shape.has_role(entry.first); });
      if (!serves(shape.shape, use) || !has_roles) continue;
      std::optional<RowFormat> format = Binder(shape, first_row, by_role).bind(accepts_null);
      if (!format) continue;
      list_unused_columns(first_row, *format);
      return *format;
    }
  }
  throw_no_shape(columns, !by_role.empty(), where, use);
}

}  // namespace plumb
