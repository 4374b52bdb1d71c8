// A model's own chat template and, behind a record separator, what the user says. Rendering stays within its budgets,
// and no byte of the user's text comes out as the template's.
#include <vector>

#include "lib/text/chat_template.hpp"
#include "lib/text/jinja.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace plumb::fuzz {

namespace {

// a character that no template holds and no filter makes
constexpr std::string_view kUserCharacter = "\uE2E2";
constexpr size_t kMaxOutputBytes = 1 << 20;

void check_ranges(const MarkedText& marked) {
  size_t end = 0;
  for (const ByteRange& range : marked.user_ranges) {
    require(range.begin >= end && range.begin < range.end && range.end <= marked.text.size(), "ranges ascend");
    end = range.end;
  }
}

void check_marks(const jinja::Text& text) {
  require(text.marks.size() == text.bytes.size(), "every byte has a mark");
  for (size_t at = text.bytes.find(kUserCharacter); at != std::string::npos;
       at = text.bytes.find(kUserCharacter, at + 1))
    require(text.marks.substr(at, kUserCharacter.size()) == std::string(kUserCharacter.size(), jinja::kUserMark),
            "what a user says stays the user's");
}

}  // namespace

bool accepts(std::string_view input) {
  const std::string_view source = take_part(input);
  const std::string said = std::string(kUserCharacter) + std::string(input) + std::string(kUserCharacter);
  const bool may_make_it = source.find(kUserCharacter) != std::string_view::npos ||
                           source.find("\\u") != std::string_view::npos ||
                           source.find("\\U") != std::string_view::npos || source.find("\\x") != std::string_view::npos;
  bool is_rendered = false;
  return is_accepted([&] {
           const jinja::Template parsed(source);
           const auto user_text = [&](std::string_view text, char mark) {
             return jinja::Runtime::wrap_text(jinja::Text(text, mark));
           };
           const jinja::Limits limits{100'000, kMaxOutputBytes, 8 * kMaxOutputBytes};
           jinja::Runtime runtime(limits, 0);
           const jinja::Value message =
               runtime.make_dict({{user_text("role", jinja::kTemplateMark), user_text("user", jinja::kTemplateMark)},
                                  {user_text("content", jinja::kTemplateMark), user_text(said, jinja::kUserMark)}});
           const jinja::Text text = parsed.render({{"messages", runtime.make_sequence({message, message})},
                                                   {"bos_token", user_text("<s>", jinja::kTemplateMark)},
                                                   {"add_generation_prompt", jinja::Value(true)}},
                                                  0, limits);
           require(text.size() <= kMaxOutputBytes, "the output is bounded");
           if (!may_make_it) check_marks(text);
           is_rendered = true;
         }) &&
         is_rendered && is_accepted([&] {
           const std::vector<Message> messages = {{"system", said}, {"user", std::string(input)}};
           check_ranges(ChatTemplate::from_jinja(source, "<s>", "</s>").render(messages, true));
         });
}

}  // namespace plumb::fuzz
