#include "lib/text/row_format.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <span>

#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {
namespace {

using nlohmann::json;

struct Shape {
  RowShape shape;
  std::string_view name;
  std::vector<std::string> required;
  std::vector<std::string> optional;

  bool has_role(const std::string& role) const {
    return std::find(required.begin(), required.end(), role) != required.end() ||
           std::find(optional.begin(), optional.end(), role) != optional.end();
  }
};

/// In the order in which they are tried. Text is last because tables often keep a rendered copy in it.
const std::vector<Shape>& known_shapes() {
  static const std::vector<Shape> kShapes = {
      {RowShape::kPreference, "prompt+chosen+rejected", {"chosen", "rejected"}, {"prompt", "margin"}},
      {RowShape::kPromptCompletion, "prompt+completion", {"prompt", "completion"}, {}},
      {RowShape::kMessages, "messages (or conversations)", {"messages"}, {}},
      {RowShape::kInstruction, "instruction+input+output", {"instruction", "output"}, {"input", "system"}},
      {RowShape::kQuestion, "system+question+answer", {"question", "answer"}, {"system"}},
      {RowShape::kText, "text", {"text"}, {}},
  };
  return kShapes;
}

std::vector<std::string> known_roles() {
  std::vector<std::string> roles;
  for (const Shape& shape : known_shapes()) {
    for (const auto* list : {&shape.required, &shape.optional}) {
      for (const std::string& role : *list) {
        if (std::find(roles.begin(), roles.end(), role) == roles.end()) roles.push_back(role);
      }
    }
  }
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

/// The column of a role that is not overridden; the row need not have it.
std::string default_column(const std::string& role, const json& first_row) {
  const bool is_sharegpt = role == "messages" && !first_row.contains(role) && first_row.contains("conversations");
  return is_sharegpt ? "conversations" : role;
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

}  // namespace

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
  const auto is_taken = [&](const std::string& column) {
    return std::any_of(by_role.begin(), by_role.end(), [&](const auto& entry) { return entry.second == column; });
  };

  for (const Shape& shape : known_shapes()) {
    if (!serves(shape.shape, use)) continue;
    if (!std::all_of(by_role.begin(), by_role.end(), [&](const auto& entry) { return shape.has_role(entry.first); })) {
      continue;
    }
    RowFormat format;
    format.shape = shape.shape;
    bool fits = true;
    const auto bind = [&](const std::string& role, bool is_required) {
      const auto overridden = by_role.find(role);
      const std::string column = overridden != by_role.end() ? overridden->second : default_column(role, first_row);
      const bool is_free = overridden != by_role.end() || !is_taken(column);
      if (is_required && !(is_free && first_row.contains(column))) fits = false;
      // a pair without its prompt or margin is a different pair: the first row decides for all rows
      const bool may_start_later = shape.shape != RowShape::kPreference;
      const bool is_here = first_row.contains(column) && !first_row.at(column).is_null();
      if (is_free && (is_required || may_start_later || is_here)) format.columns[role] = column;
    };
    for (const std::string& role : shape.required) bind(role, true);
    for (const std::string& role : shape.optional) bind(role, false);
    if (!fits) continue;
    format.holds_messages = first_row.at(format.columns.at(shape.required.back())).is_array();
    for (const std::string& column : columns) {
      const bool is_used = std::any_of(format.columns.begin(), format.columns.end(),
                                       [&](const auto& entry) { return entry.second == column; });
      if (!is_used) format.unused_columns.push_back(column);
    }
    return format;
  }
  throw_no_shape(columns, !by_role.empty(), where, use);
}

}  // namespace plumb
