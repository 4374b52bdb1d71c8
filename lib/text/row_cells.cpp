#include "lib/text/row_cells.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/text/turns.hpp"

namespace plumb {
namespace {

using json = nlohmann::ordered_json;

/// Columns of what plumb does not train on.
constexpr std::array<const char*, 7> kMediaColumns = {"image", "images", "video",  "videos",
                                                      "audio", "audios", "objects"};
/// The cell, or the JSON that its text spells; null if there is none.
json structured_cell(const json& row, const RowFormat& format, const char* role, std::string_view where) {
  const json* cell = find_cell(row, format, role);
  if (cell == nullptr || is_null_or_empty(*cell)) return nullptr;
  return parse_if_text(*cell, fmt::format("{}: column \"{}\"", where, format.columns.at(role)));
}

}  // namespace

const json* find_cell(const json& row, const RowFormat& format, const char* role) {
  const auto column = format.columns.find(role);
  if (column == format.columns.end()) return nullptr;
  const auto cell = row.find(column->second);
  return cell == row.end() || cell->is_null() ? nullptr : &*cell;
}

const json& cell_of(const json& row, const RowFormat& format, const char* role, std::string_view where) {
  if (const auto cell = row.find(format.columns.at(role)); cell != row.end()) return *cell;
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
  return find_cell(row, format, role) == nullptr ? "" : text_cell(row, format, role, where);
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

TemplateInputs template_inputs(const json& row, const RowFormat& format, std::string_view where) {
  TemplateInputs inputs;
  inputs.tools = structured_cell(row, format, "tools", where);
  if (is_null_or_empty(inputs.tools)) inputs.tools = nullptr;
  if (!inputs.tools.is_null() && !inputs.tools.is_array()) {
    throw_error<DataError>("{}: column \"{}\": expected a list of tools, or JSON text of one, got {}", where,
                           format.columns.at("tools"), inputs.tools.type_name());
  }
  if (const json variables = structured_cell(row, format, "chat_template_kwargs", where); !variables.is_null()) {
    const std::string& column = format.columns.at("chat_template_kwargs");
    if (!variables.is_object()) {
      throw_error<DataError>("{}: column \"{}\": expected an object, got {}", where, column, variables.type_name());
    }
    for (const char* name : kTemplateVariables) {
      if (variables.contains(name)) {
        throw_error<DataError>(
            "{}: column \"{}\": expected options of the template, got \"{}\", which the row gives it", where, column,
            name);
      }
    }
    inputs.variables = variables;
  }
  return inputs;
}

void check_row(const json& row, const RowFormat& format, std::string_view where) {
  if (!row.is_object()) throw_error<DataError>("{}: expected an object, got {}", where, row.type_name());
  for (const char* column : kMediaColumns) {
    const auto cell = row.find(column);
    const bool is_used = std::any_of(format.columns.begin(), format.columns.end(),
                                     [&](const auto& entry) { return entry.second == column; });
    if (cell == row.end() || is_used || is_null_or_empty(*cell)) continue;
    throw_error<DataError>("{}: column \"{}\": expected none, got a value; plumb trains on text alone, so leave it out",
                           where, column);
  }
}

MarkedText plain_text(std::string text, bool parses_special_tokens) {
  MarkedText marked{std::move(text), {}};
  if (!parses_special_tokens && !marked.text.empty()) marked.user_ranges = {{0, marked.text.size()}};
  return marked;
}

RenderedChat render_messages(const ChatTemplate& chat, std::span<const Message> messages, bool adds_generation_prompt,
                             const TemplateInputs& inputs, bool parses_special_tokens, std::string_view where) {
  try {
    RenderedChat rendered = chat.render_parts(messages, adds_generation_prompt, inputs);
    if (parses_special_tokens) rendered.text.user_ranges.clear();
    return rendered;
  } catch (const DataError& error) {
    throw_error<DataError>("{}: {}", where, error.what());
  }
}

}  // namespace plumb
