#include "lib/text/turn_end.hpp"

#include <array>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

/// The text that the template renders after the answer of a conversation of one.
std::string text_after_answer(const ChatTemplate& chat) {
  const std::array<Message, 2> messages = {Message{"user", "Hello"}, Message{"assistant", "Hi"}};
  try {
    const RenderedChat rendered = chat.render_parts(messages, false);
    const size_t end = rendered.contents[1].end;
    return end == 0 ? "" : rendered.text.text.substr(end);
  } catch (const DataError&) {
    return "";  // rows that it refuses are refused by name
  }
}

}  // namespace

TurnEnd find_turn_end(const ChatTemplate& chat, const Tokenizer& tokenizer) {
  constexpr std::string_view kSpace = " \n\r\t";
  TurnEnd end;
  end.text = text_after_answer(chat);
  end.text.erase(end.text.find_last_not_of(kSpace) + 1);
  end.text.erase(0, end.text.find_first_not_of(kSpace));
  if (end.text.empty()) return end;
  const int32_t first = tokenizer.encode(MarkedText{end.text, {}}, false).front();
  if (tokenizer.is_added(first)) end.id = first;
  return end;
}

}  // namespace plumb
