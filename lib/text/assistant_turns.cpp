#include "lib/text/assistant_turns.hpp"

#include <algorithm>
#include <string>

#include "lib/base/check.hpp"
#include "lib/text/row_cells.hpp"

namespace plumb {
namespace {

size_t count_common_bytes(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

bool is_empty(const ByteRange& range) { return range.begin >= range.end; }

/// The template marks the ranges. If there is one for each of the assistant's messages, they are theirs in order;
/// otherwise a range belongs to the message whose text it holds.
AssistantTurns marked_turns(std::span<const Message> messages, const RenderedChat& rendered) {
  std::vector<size_t> speakers;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == "assistant") speakers.push_back(i);
  }
  AssistantTurns turns;
  const std::vector<ByteRange>& ranges = rendered.generations;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const auto holds = [&](size_t message) {
      const ByteRange& content = rendered.contents[message];
      return !is_empty(content) && content.begin < ranges[i].end && ranges[i].begin < content.end;
    };
    size_t speaker = messages.size();
    if (ranges.size() == speakers.size()) {
      speaker = speakers[i];
    } else if (const auto found = std::find_if(speakers.begin(), speakers.end(), holds); found != speakers.end()) {
      speaker = *found;
    }
    const bool is_trained = speaker == messages.size() || messages[speaker].is_trained.value_or(true);
    (is_trained ? turns.trained : turns.untrained).push_back(ranges[i]);
  }
  return turns;
}

class TurnFinder {
 public:
  TurnFinder(const ChatTemplate& chat, std::span<const Message> messages, const TemplateInputs& inputs,
             const RenderedChat& rendered, std::string_view where)
      : chat_(chat),
        messages_(messages),
        inputs_(inputs),
        rendered_(rendered),
        text_(rendered.text.text),
        where_(where) {}

  ByteRange find(size_t message) const {
    const std::string head = render(message, true).text.text;
    const RenderedChat turn = render(message + 1, false);
    if (turn.text.text.starts_with(head) && text_.starts_with(turn.text.text))
      return {head.size(), turn.text.text.size()};
    // earlier turns are rendered differently once others follow, so only what surrounds the content is compared
    const ByteRange& content = rendered_.contents[message];
    if (is_empty(content)) {
      throw_error<DataError>(
          "{}: assistant_only_loss: expected the template to render message {} alike whatever follows, got other text; "
          "use another template, or prompt+completion rows",
          where_, message);
    }
    const size_t end = message + 1 == messages_.size() ? text_.size() : content.end + closing_bytes(message, turn);
    return {find_begin(message, head, content.begin), end};
  }

 private:
  RenderedChat render(size_t num_messages, bool adds_generation_prompt) const {
    return render_messages(chat_, messages_.first(num_messages), adds_generation_prompt, inputs_, false, where_);
  }

  /// Behind the header of the turn: where the prompt ends, else behind the last header before the content.
  size_t find_begin(size_t message, const std::string& head, size_t content_begin) const {
    const size_t earlier = message == 0 ? 0 : rendered_.contents[message - 1].end;
    const size_t common = std::min(count_common_bytes(head, text_), content_begin);
    if (common > earlier) return common;
    const std::string before = render(message, false).text.text;
    std::string_view header = std::string_view(head).substr(count_common_bytes(before, head));
    const std::string_view between = std::string_view(text_).substr(earlier, content_begin - earlier);
    for (; !header.empty(); header.remove_suffix(1)) {
      if (const size_t at = between.rfind(header); at != std::string_view::npos) return earlier + at + header.size();
    }
    return content_begin;
  }

  /// How much of what ends the turn alone also ends it here.
  size_t closing_bytes(size_t message, const RenderedChat& turn) const {
    const std::string_view closing = std::string_view(turn.text.text).substr(turn.contents[message].end);
    const size_t begin = rendered_.contents[message].end;
    const size_t common = count_common_bytes(closing, std::string_view(text_).substr(begin));
    if (common == closing.size()) return common;
    // what follows may begin like the rest of the closing: a control token is not taken in part
    const size_t whole = closing.substr(0, common).find_last_of(">]|\n");
    return whole == std::string_view::npos || closing[whole] == '|' ? whole_tokens(closing.substr(0, common))
                                                                    : whole + 1;
  }

  static size_t whole_tokens(std::string_view text) {
    const size_t open = text.find_last_of('<');
    return open == std::string_view::npos ? text.size() : open;
  }

  const ChatTemplate& chat_;
  std::span<const Message> messages_;
  const TemplateInputs& inputs_;
  const RenderedChat& rendered_;
  const std::string& text_;
  std::string_view where_;
};

}  // namespace

AssistantTurns find_assistant_turns(const ChatTemplate& chat, std::span<const Message> messages,
                                    const TemplateInputs& inputs, const RenderedChat& rendered,
                                    std::string_view where) {
  if (chat.has_generations()) return marked_turns(messages, rendered);
  AssistantTurns turns;
  const TurnFinder finder(chat, messages, inputs, rendered, where);
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "assistant") continue;
    (messages[i].is_trained.value_or(true) ? turns.trained : turns.untrained).push_back(finder.find(i));
  }
  return turns;
}

}  // namespace plumb
