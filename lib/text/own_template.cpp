#include "lib/text/own_template.hpp"

#include <span>
#include <vector>

#include "lib/text/chat_template.hpp"
#include "lib/text/named_templates.hpp"

namespace plumb {
namespace {

/// The spelling of the control tokens that begin every text.
std::string text_prefix(const Tokenizer& tokenizer) {
  std::vector<int32_t> ids = tokenizer.encode("");
  const bool ends_in_eos = !ids.empty() && ids.back() == tokenizer.eos_id();
  if (ends_in_eos && (ids.size() > 1 || ids.back() != tokenizer.bos_id())) ids.pop_back();
  std::string prefix;
  for (const int32_t id : ids) prefix += tokenizer.decode(std::span(&id, 1));
  return prefix;
}

std::string jinja_literal(std::string_view text) {
  std::string literal = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') literal += '\\';
    literal += c;
  }
  return literal + "'";
}

bool have_same_tokens(const ChatTemplate& named, const ChatTemplate& own, const Tokenizer& tokenizer) {
  const std::vector<Message> messages = {{"system", "Be brief."}, {"user", "Hello"}, {"assistant", "Hi there."}};
  for (const size_t first : {0, 1})
    for (const size_t last : {2, 3}) {
      const auto part = std::span(messages).subspan(first, last - first);
      const bool is_question = last == 2;
      if (tokenizer.encode(named.render(part, is_question), !named.renders_special_tokens()) !=
          tokenizer.encode(own.render(part, is_question), !own.renders_special_tokens()))
        return false;
    }
  return true;
}

}  // namespace

OwnTemplate own_template(std::string_view name, const Tokenizer& tokenizer) {
  const ChatTemplate named = ChatTemplate::named(name, tokenizer.bos_token(), tokenizer.eos_token());
  const std::string source(find_named_template(name)->source), prefix = text_prefix(tokenizer);
  const std::string begin =
      prefix == tokenizer.bos_token() && !prefix.empty() ? "{{- bos_token" : "{{- " + jinja_literal(prefix);
  // SentencePiece models put a space before the first word of a text, but not before one that follows BOS
  for (const std::string& candidate : {source, begin + " -}}\n" + source, begin + " ~ ' ' -}}\n" + source}) {
    const auto own = ChatTemplate::from_jinja(candidate, tokenizer.bos_token(), tokenizer.eos_token());
    if (have_same_tokens(named, own, tokenizer)) return {candidate, true};
  }
  return {begin + " -}}\n" + source, false};
}

bool is_own_form_of(std::string_view name, std::string_view source) {
  const NamedTemplate* named = find_named_template(name);
  return named != nullptr && source.ends_with(named->source);
}

}  // namespace plumb
