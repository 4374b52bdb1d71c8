// Finds what the assistant says in a rendered conversation: what {% generation %} encloses where the template has it,
// else what each of its turns adds after its header. Source: the assistant masks of transformers and TRL.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "lib/text/chat_template.hpp"

namespace plumb {

struct AssistantTurns {
  std::vector<ByteRange> trained;
  std::vector<ByteRange> untrained;  // of turns that their row marks as such
};

/// `rendered` is the whole conversation without a generation prompt. Throws DataError beginning with `where` if a turn
/// of the assistant is nowhere in it.
AssistantTurns find_assistant_turns(const ChatTemplate& chat, std::span<const Message> messages,
                                    const TemplateInputs& inputs, const RenderedChat& rendered, std::string_view where);

}  // namespace plumb
