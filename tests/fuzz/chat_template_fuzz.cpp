// A model's chat template and, after a record separator, the text of the user. Rendering stays within its budgets, and
// no byte of the user's text is marked as part of the template.
#include <algorithm>
#include <vector>

#include "lib/base/utf8.hpp"
#include "lib/jinja/template.hpp"
#include "lib/text/chat_template.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace plumb::fuzz {

namespace {

// a character that occurs in no template and that no filter produces
constexpr std::string_view kUserCharacter = "\uE2E2";
constexpr std::string_view kSpellings[] = {kUserCharacter, "\\u", "\\U", "\\x", "&#"};
constexpr size_t kMaxOutputBytes = 1 << 20;

void check_ranges(const MarkedText& marked) {
  size_t end = 0;
  for (const ByteRange& range : marked.user_ranges) {
    require(range.begin >= end && range.begin < range.end && range.end <= marked.text.size(), "ranges ascend");
    end = range.end;
  }
}

void check_marks(const jinja::Text& text) {
  for (size_t at = text.bytes.find(kUserCharacter); at != std::string::npos;
       at = text.bytes.find(kUserCharacter, at + 1))
    require(text.marks.substr(at, kUserCharacter.size()) == std::string(kUserCharacter.size(), jinja::kUserMark),
            "what a user says stays the user's");
}

jinja::Text render(std::string_view source, const std::string& said) {
  const jinja::Limits limits{100'000, kMaxOutputBytes, 8 * kMaxOutputBytes};
  const jinja::Template parsed(source);
  const auto text_of = [](std::string_view text, char mark) {
    return jinja::Runtime::wrap_text(jinja::Text(text, mark));
  };
  const jinja::Value role = text_of("role", jinja::kTemplateMark), user = text_of("user", jinja::kTemplateMark);
  const jinja::Value key = text_of("content", jinja::kTemplateMark), content = text_of(said, jinja::kUserMark);
  jinja::Runtime runtime(limits, 0);
  const jinja::Value message = runtime.make_dict({{role, user}, {key, content}});
  return parsed.render({{"messages", runtime.make_sequence({message, message})},
                        {"bos_token", text_of("<s>", jinja::kTemplateMark)},
                        {"add_generation_prompt", jinja::Value(true)}},
                       0, limits);
}

}  // namespace

bool accepts(std::string_view input) {
  const std::string_view source = take_part(input);
  const std::string said = std::string(kUserCharacter) + std::string(input) + std::string(kUserCharacter);
  const bool may_make_it =
      find_invalid_utf8(source) != std::string_view::npos || find_invalid_utf8(said) != std::string_view::npos ||
      std::any_of(std::begin(kSpellings), std::end(kSpellings),
                  [&](std::string_view spelling) { return source.find(spelling) != std::string_view::npos; });
  return is_accepted([&] {
    const jinja::Text text = render(source, said);
    require(text.size() <= kMaxOutputBytes && text.marks.size() == text.size(), "the output is bounded and marked");
    if (!may_make_it) check_marks(text);
    const std::vector<Message> messages = {{"system", said}, {"user", std::string(input)}};
    check_ranges(ChatTemplate::from_jinja(source, "<s>", "</s>").render(messages, true));
  });
}

}  // namespace plumb::fuzz
