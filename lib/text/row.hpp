// Turns a row of a data set into one text and marks the part of it that is trained.
// Source: the dataset formats of TRL; the instruction/input/output columns of Alpaca; the conversations of ShareGPT.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "lib/text/row_format.hpp"
#include "lib/text/row_template.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

struct SftOptions {
  int64_t max_length = 1024;                 // tokens; 0 keeps all
  std::optional<bool> completion_only_loss;  // default: true if rows have a prompt
  bool assistant_only_loss = false;
  bool parses_special_tokens = false;  // control tokens spelled out in the data become control tokens, as in TRL
};

struct SftText {
  std::optional<MarkedText> prompt;  // what is asked, in rows that have a prompt; mostly the beginning of `full`
  MarkedText full;
  std::optional<std::vector<ByteRange>> assistant_ranges;  // of `full`; present with assistant_only_loss
  std::vector<ByteRange> untrained_ranges;                 // of turns that the row marks as not to be trained
  bool omits_message = false;                              // the template renders no text of a message
  bool asks_nothing = false;                               // the prompt is blank
  bool adds_special_tokens = true;
  bool appends_eos = false;         // false with templates, which render their own
  std::optional<int32_t> turn_end;  // of the template
};

/// The text that asks for an answer, up to the header of the answer.
struct PromptText {
  MarkedText text;
  bool adds_special_tokens = true;
};

/// `row_template` is the result of choose_template(), or null. Throws DataError beginning with `where` for a missing
/// column, a cell of the wrong type, or an invalid message; UsageError if the options do not fit the shape.
SftText render_sft(const nlohmann::ordered_json& row, const RowFormat& format, const RowTemplate* row_template,
                   const SftOptions& options, std::string_view where);

/// The prompt of a row, as above; of a conversation, the turns before the assistant's last one; all of a text. The row
/// needs no answer.
PromptText render_prompt(const nlohmann::ordered_json& row, const RowFormat& format, const RowTemplate* row_template,
                         const SftOptions& options, std::string_view where);

}  // namespace plumb
