// Finds the shape of the rows of a data set from the columns of the first row and the user's overrides.
// Source: the dataset formats of TRL; the column names of LLaMA-Factory, axolotl, ms-swift and ShareGPT.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// Conversations of any shape may have the roles system (text), history (pairs of question and answer), tools (a list)
/// and chat_template_kwargs (options of the template) too.
enum class RowShape {
  kText,              // text
  kPromptCompletion,  // prompt, completion: text or messages
  kMessages,          // messages, or conversations
  kInstruction,       // instruction, output; optional input
  kQuestion,          // question, answer
  kPreference,        // chosen, rejected: text or messages; what asks (prompt, messages, instruction and input, or
                      // question) and margin (a number) in all rows or in none
};

/// The shapes to look for, because rows may have the columns of several.
enum class RowUse { kAny, kSft, kPreference };

struct RowFormat {
  RowShape shape = RowShape::kText;
  bool is_conversation = false;                // a chat template renders the row
  std::map<std::string, std::string> columns;  // role to column; also of optional columns that rows may lack
  std::vector<std::string> unused_columns;     // of the first row
  std::vector<std::string> dropped_columns;    // those of them that other trainers use and that repeat no used one
};

/// True for the names of columns that other trainers use.
bool is_known_column(std::string_view column);

/// False if a column that the shape needs is null in this row.
bool has_required_cells(const nlohmann::ordered_json& row, const RowFormat& format);

/// The columns as text: "prompt+completion".
std::string_view name_of(RowShape shape);

/// Parses "role=name,role=name" to role and column. Throws UsageError.
std::map<std::string, std::string> parse_columns_option(std::string_view option);

/// Returns the first shape for `use` that has all roles of `columns_override` and a column for each required role. A
/// role that is not overridden is the column of that name. Throws DataError if no shape fits, UsageError for an invalid
/// override.
RowFormat find_row_format(const nlohmann::ordered_json& first_row,
                          const std::map<std::string, std::string>& columns_override, std::string_view where,
                          RowUse use = RowUse::kAny);

}  // namespace plumb
