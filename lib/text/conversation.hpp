// Puts the columns of a row together to a conversation: system text and history, then what asks, then the answer.
// Source: the dataset formats of TRL, and what the columns beside them mean to LLaMA-Factory, axolotl and ms-swift.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "lib/text/message.hpp"
#include "lib/text/row_format.hpp"

namespace plumb {

// `where` begins every message. These throw DataError for a missing column or a cell of the wrong type.

/// The turns before the answer: the system text and the history, then the prompt, messages, instruction or question. A
/// prompt that is text is a turn of the user. With `has_input_turn`, an instruction's input is a turn of role "input".
std::vector<Message> context_turns(const nlohmann::ordered_json& row, const RowFormat& format, bool has_input_turn,
                                   std::string_view where);

/// True where a blank turn of the user comes last.
bool asks_nothing(std::span<const Message> prompt);

/// The turns of an answer: messages, one message, or text, which is the assistant's.
std::vector<Message> answer_turns(const nlohmann::ordered_json& row, const RowFormat& format, const char* role,
                                  std::string_view where);

/// The turns that a row asks to continue: those before its answer; of a conversation, those before the assistant's last
/// turn.
std::vector<Message> question_turns(const nlohmann::ordered_json& row, const RowFormat& format, bool has_input_turn,
                                    std::string_view where);

/// Both answers of a pair to one prompt.
struct PairTurns {
  std::vector<Message> chosen;  // the whole conversation
  std::vector<Message> rejected;
  size_t num_prompt = 0;  // both begin with these turns
};

/// Where both answers are whole conversations, the columns beside them may repeat their beginning; otherwise they are
/// the prompt. Throws DataError also where the columns contradict each other, or where answers have no prompt at all.
PairTurns pair_turns(const nlohmann::ordered_json& row, const RowFormat& format, bool has_input_turn,
                     std::string_view where);

}  // namespace plumb
