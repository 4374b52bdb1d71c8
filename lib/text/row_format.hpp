// Which shape the rows of a data set have, told by the columns of the first one and by what the user says.
// Source: the dataset formats of TRL, LLaMA-Factory's and ShareGPT's names of columns.
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
  kPreference,        // chosen, rejected, in all rows or none prompt: text or lists of messages; and margin: a number
};

/// Which shapes are looked for, as rows may have columns of several.
enum class RowUse { kAny, kSft, kPreference };

struct RowFormat {
  RowShape shape = RowShape::kText;
  bool holds_messages = false;                 // cells are lists of messages
  std::map<std::string, std::string> columns;  // role to column; optional ones of SFT too, though rows may lack them
  std::vector<std::string> unused_columns;     // of the first row
};

/// The columns in words: "prompt+completion".
std::string_view name_of(RowShape shape);

/// "role=name,role=name" to role and column. Throws UsageError.
std::map<std::string, std::string> parse_columns_option(std::string_view option);

/// The first shape, of those for `use`, that has all roles of `columns_override` and whose required roles have a
/// column; a role not overridden is the column of its own name. Throws DataError where none fits, UsageError for a bad
/// override.
RowFormat find_row_format(const nlohmann::json& first_row, const std::map<std::string, std::string>& columns_override,
                          std::string_view where, RowUse use = RowUse::kAny);

}  // namespace plumb
