// Finds the shape of the rows of a data set from the columns of the first row and the user's overrides.
// Source: the dataset formats of TRL; the column names of LLaMA-Factory and ShareGPT.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

enum class RowShape {
  kText,              // text
  kPromptCompletion,  // prompt, completion: text or lists of messages
  kMessages,          // messages, or conversations
  kInstruction,       // instruction, output; optional input, system
  kQuestion,          // question, answer; optional system
  kPreference,        // chosen, rejected (text or messages); prompt and margin (a number) in all rows or in none
};

/// The shapes to look for, because rows may have the columns of several.
enum class RowUse { kAny, kSft, kPreference };

struct RowFormat {
  RowShape shape = RowShape::kText;
  bool holds_messages = false;                 // cells are lists of messages
  std::map<std::string, std::string> columns;  // role to column; for SFT also optional columns that rows may lack
  std::vector<std::string> unused_columns;     // of the first row
};

/// The columns as text: "prompt+completion".
std::string_view name_of(RowShape shape);

/// Parses "role=name,role=name" to role and column. Throws UsageError.
std::map<std::string, std::string> parse_columns_option(std::string_view option);

/// Returns the first shape for `use` that has all roles of `columns_override` and a column for each required role. A
/// role that is not overridden is the column of that name. Throws DataError if no shape fits, UsageError for an invalid
/// override.
RowFormat find_row_format(const nlohmann::json& first_row, const std::map<std::string, std::string>& columns_override,
                          std::string_view where, RowUse use = RowUse::kAny);

}  // namespace plumb
