#include "lib/text/chat_template.hpp"

#include <algorithm>
#include <array>
#include <ctime>

#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"
#include "lib/jinja/template.hpp"
#include "lib/text/named_templates.hpp"

namespace plumb {

struct ChatTemplate::Program {
  jinja::Template source;
  std::string bos_token;
  std::string eos_token;
  bool is_named;
  bool renders_special_tokens;
  std::time_t compiled_at;
};

ChatTemplate ChatTemplate::named(std::string_view name, std::string bos_token, std::string eos_token) {
  for (const NamedTemplate& named : named_templates())
    if (named.name == name)
      return ChatTemplate(std::make_shared<const Program>(Program{jinja::Template(named.source), std::move(bos_token),
                                                                  std::move(eos_token), true, named.renders_bos, 0}));
  throw_error<UsageError>("chat template '{}' is unknown; known: {}{}", name, fmt::join(template_names(), ", "),
                          did_you_mean(name, template_names(), "'", "'"));
}

ChatTemplate ChatTemplate::from_jinja(std::string_view source, std::string bos_token, std::string eos_token) {
  return ChatTemplate(std::make_shared<const Program>(
      Program{jinja::Template(source), std::move(bos_token), std::move(eos_token), false, true, std::time(nullptr)}));
}

static jinja::Value text_value(std::string_view text, char mark) {
  return jinja::Runtime::wrap_text(jinja::Text(text, mark));
}

static jinja::Value message_value(jinja::Runtime& runtime, const Message& message) {
  static constexpr std::array<std::string_view, 4> kRoles = {"system", "user", "assistant", "tool"};
  const bool is_known = std::find(kRoles.begin(), kRoles.end(), message.role) != kRoles.end();
  return runtime.make_dict(
      {{text_value("role", jinja::kTemplateMark),
        text_value(message.role, is_known ? jinja::kTemplateMark : jinja::kUserMark)},
       {text_value("content", jinja::kTemplateMark), text_value(message.content, jinja::kUserMark)}});
}

static std::vector<ByteRange> user_ranges(std::string_view marks) {
  std::vector<ByteRange> ranges;
  for (size_t at = 0; at < marks.size();) {
    const size_t begin = std::min(marks.find(jinja::kUserMark, at), marks.size());
    at = std::min(marks.find(jinja::kTemplateMark, begin), marks.size());
    if (begin < at) ranges.push_back({begin, at});
  }
  return ranges;
}

MarkedText ChatTemplate::render(std::span<const Message> messages, bool adds_generation_prompt) const {
  jinja::Runtime runtime(jinja::Limits(), program_->compiled_at);
  std::vector<jinja::Value> list;
  list.reserve(messages.size());
  for (const Message& message : messages) list.push_back(message_value(runtime, message));
  std::vector<std::pair<std::string, jinja::Value>> variables = {
      {"messages", runtime.make_sequence(std::move(list))},
      {"tools", jinja::Value(jinja::None())},
      {"documents", jinja::Value(jinja::None())},
      {"add_generation_prompt", jinja::Value(adds_generation_prompt)}};
  // As in transformers, a token that the tokenizer lacks is undefined in a model's own template.
  for (const auto& [name, token] : {std::pair("bos_token", &program_->bos_token), {"eos_token", &program_->eos_token}})
    if (program_->is_named || !token->empty()) variables.emplace_back(name, text_value(*token, jinja::kTemplateMark));
  jinja::Text text = program_->source.render(variables, program_->compiled_at);
  return {std::move(text.bytes), user_ranges(text.marks)};
}

bool ChatTemplate::renders_special_tokens() const { return program_->renders_special_tokens; }

std::span<const std::string> template_names() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> names;
    for (const NamedTemplate& named : named_templates()) names.emplace_back(named.name);
    return names;
  }();
  return kNames;
}

}  // namespace plumb
