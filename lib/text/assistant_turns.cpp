#include "lib/text/assistant_turns.hpp"

#include <algorithm>
#include <optional>
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
    // some templates do not render a conversation without messages
    const Parts parts = {message == 0 ? "" : render(message, true).text.text, render(message + 1, false)};
    const std::string& turn = parts.turn.text.text;
    const bool keeps_turns = message > 0 && turn.starts_with(parts.head) && text_.starts_with(turn);
    size_t begin = keeps_turns ? parts.head.size() : find_begin(message, parts);
    begin = before_thought(message, parts, begin);
    const size_t end = before_blank(message, keeps_turns ? turn.size() : find_end(message, parts.turn, begin));
    for (const std::string_view header : chat_.trained_headers()) {
      if (!std::string_view(text_).substr(0, begin).ends_with(header)) continue;
      return {begin - header.size(), end};
    }
    return {begin, end};
  }

 private:
  struct Parts {
    std::string head;   // the turns before this one, with the header of this one
    RenderedChat turn;  // the same with this one
  };

  RenderedChat render(size_t num_messages, bool adds_generation_prompt) const {
    return render_messages(chat_, messages_.first(num_messages), adds_generation_prompt, inputs_, false, where_);
  }

  size_t end_of_earlier(size_t message) const { return message == 0 ? 0 : rendered_.contents[message - 1].end; }
  /// Without content, where the next one begins.
  size_t begin_of_content(size_t message) const {
    for (size_t i = message; i < messages_.size(); ++i) {
      if (!is_empty(rendered_.contents[i])) return rendered_.contents[i].begin;
    }
    return text_.size();
  }

  /// After the header of the turn: the end of the prompt, else of the last header before the content.
  size_t find_begin(size_t message, const Parts& parts) const {
    // earlier turns may be rendered differently once others follow
    const size_t earlier = end_of_earlier(message), content_begin = begin_of_content(message);
    const size_t common = std::min(count_common_bytes(parts.head, text_), content_begin);
    if (common > earlier) return common;
    const std::string whole_header = header_of(message, parts);
    for (std::string_view header = whole_header; !header.empty(); header.remove_suffix(1)) {
      if (const auto end = find_after(header, earlier, content_begin)) return *end;
    }
    return content_begin;
  }

  /// A thought that the generation prompt opens is the assistant's.
  size_t before_thought(size_t message, const Parts& parts, size_t begin) const {
    constexpr std::string_view kThought = "<think>";
    constexpr size_t kMostBytes = 64;  // of a header from there on
    const std::string_view end_of_head =
        std::string_view(parts.head).substr(parts.head.size() - std::min(parts.head.size(), kMostBytes));
    if (message > 0 && end_of_head.find(kThought) == std::string_view::npos) return begin;
    const std::string header = header_of(message, parts);
    const size_t thought = header.find(kThought);
    if (thought == std::string::npos || thought == 0) return begin;
    return find_after(std::string_view(header).substr(0, thought), end_of_earlier(message), begin).value_or(begin);
  }

  std::string header_of(size_t message, const Parts& parts) const {
    if (message > 0) {
      const std::string before = render(message, false).text.text;
      return parts.head.substr(count_common_bytes(before, parts.head));
    }
    const std::vector<Message> question = {{"user", "?"}};
    const auto render_question = [&](bool adds_generation_prompt) {
      return render_messages(chat_, question, adds_generation_prompt, inputs_, false, where_).text.text;
    };
    const std::string head = render_question(true);
    return head.substr(count_common_bytes(render_question(false), head));
  }

  /// The end of the last occurrence of `sought` within [begin, end) of the text.
  std::optional<size_t> find_after(std::string_view sought, size_t begin, size_t end) const {
    const size_t at = std::string_view(text_).substr(begin, end - begin).rfind(sought);
    if (at == std::string_view::npos) return std::nullopt;
    return begin + at + sought.size();
  }

  /// After as much of the closing of the turn alone as closes it here.
  size_t find_end(size_t message, const RenderedChat& turn, size_t turn_begin) const {
    if (message + 1 == messages_.size()) return text_.size();
    const bool has_content = !is_empty(rendered_.contents[message]) && !is_empty(turn.contents[message]);
    if (!has_content && !turn.text.text.starts_with(std::string_view(text_).substr(0, turn_begin))) {
      throw_error<DataError>(
          "{}: assistant_only_loss: expected the template to render message {} alike whatever follows, got other text; "
          "use another template, or prompt+completion rows",
          where_, message);
    }
    const size_t begin = has_content ? rendered_.contents[message].end : turn_begin;
    const size_t alone = has_content ? turn.contents[message].end : turn_begin;
    const std::string_view closing = std::string_view(turn.text.text).substr(alone);
    const std::string_view after = std::string_view(text_).substr(begin);
    const size_t common = count_common_bytes(closing, after);
    if (common == closing.size()) return begin + common;
    // what follows may begin like the rest of the closing: a control token is not taken in part
    const size_t whole = whole_tokens(closing.substr(0, common));
    if (whole == 0 && closing.starts_with('<') && after.starts_with('<')) {
      return begin + std::min(after.find('>'), after.size() - 1) + 1;  // turns end in one of two control tokens
    }
    return begin + whole;
  }

  /// A blank after the control token that ends the turn begins the next one (Llava-NeXT, ...).
  size_t before_blank(size_t message, size_t end) const {
    const bool ends_in_blank = std::string_view(text_).substr(0, end).ends_with("> ");
    return ends_in_blank && end > rendered_.contents[message].end ? end - 1 : end;
  }

  static size_t whole_tokens(std::string_view text) {
    const size_t open = text.find_last_of('<');
    return open == std::string_view::npos || text.find('>', open) != std::string_view::npos ? text.size() : open;
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
