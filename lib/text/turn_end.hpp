// How a chat template ends a turn of the assistant, which may be another token than the tokenizer's EOS.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "lib/text/chat_template.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

struct TurnEnd {
  std::string text;           // what follows the last answer, without white space around it
  std::optional<int32_t> id;  // the control token at its beginning; none: `text` is empty or ordinary text
};

/// Found by rendering a question and its answer; nothing where the template refuses them or leaves out the answer.
TurnEnd find_turn_end(const ChatTemplate& chat, const Tokenizer& tokenizer);

}  // namespace plumb
