#include "lib/text/chat_template.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <ctime>

#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"
#include "lib/jinja/template.hpp"
#include "lib/text/named_templates.hpp"
#include "lib/text/training_templates.hpp"

namespace plumb {

struct ChatTemplate::Program {
  jinja::Template source;
  std::map<std::string, std::string> special_tokens;  // undefined in the source, unless they are here
  bool renders_special_tokens;
  std::time_t compiled_at;
  std::vector<std::string_view> trained_headers = {};
  std::shared_ptr<const Program> training = nullptr;  // null: this one
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();
};

ChatTemplate ChatTemplate::named(std::string_view name, std::string bos_token, std::string eos_token) {
  if (const NamedTemplate* named = find_named_template(name))
    return ChatTemplate(std::make_shared<const Program>(
        Program{jinja::Template(named->source),
                {{"bos_token", std::move(bos_token)}, {"eos_token", std::move(eos_token)}},
                named->renders_bos,
                0}));
  throw_error<UsageError>("chat template '{}' is unknown; known: {}{}", name, fmt::join(template_names(), ", "),
                          did_you_mean(name, template_names(), "'", "'"));
}

ChatTemplate ChatTemplate::from_jinja(std::string_view source, std::string bos_token, std::string eos_token) {
  std::map<std::string, std::string> tokens;
  if (!bos_token.empty()) tokens["bos_token"] = std::move(bos_token);
  if (!eos_token.empty()) tokens["eos_token"] = std::move(eos_token);
  return from_jinja(source, std::move(tokens));
}

ChatTemplate ChatTemplate::from_jinja(std::string_view source, std::map<std::string, std::string> special_tokens) {
  const auto program =
      std::make_shared<Program>(Program{jinja::Template(source), std::move(special_tokens), true, std::time(nullptr)});
  if (!program->source.has_generations()) {
    program->trained_headers = plumb::trained_headers(source);
    if (const std::string edited = training_source(source); edited != source) {
      const auto training = std::make_shared<Program>(*program);
      training->source = jinja::Template(edited);
      program->training = training;
    }
  }
  return ChatTemplate(program);
}

std::optional<ChatTemplate> ChatTemplate::find(const Tokenizer& tokenizer, std::string_view name) {
  if (!name.empty()) return named(name, tokenizer.bos_token(), tokenizer.eos_token());
  if (tokenizer.chat_template().empty()) return std::nullopt;
  return from_jinja(tokenizer.chat_template(), tokenizer.special_tokens());
}

static jinja::Value text_value(std::string_view text, char mark) {
  return jinja::Runtime::wrap_text(jinja::Text(text, mark));
}

// The parser has made a fraction of an integer of more than 64 bits, which Python prints in all its digits.
static jinja::Value number_value(const nlohmann::ordered_json& json) {
  constexpr double kTwoTo63 = 9223372036854775808.0;
  const bool is_integer =
      json.is_number_integer() && !(json.is_number_unsigned() && json.get<uint64_t>() > uint64_t{INT64_MAX});
  if (is_integer) return jinja::Value(json.get<int64_t>());
  const auto number = json.get<double>();
  if (json.is_number_integer() || std::abs(number) >= kTwoTo63)
    throw_error<DataError>(
        "expected numbers of at most 63 bits for a chat template, got {}; write a longer one as text, or leave it out",
        json.dump());
  return jinja::Value(number);
}

// All strings get the mark, those of keys too.
static jinja::Value json_value(jinja::Runtime& runtime, const nlohmann::ordered_json& json, char mark) {
  if (json.is_null()) return jinja::Value(jinja::None());
  if (json.is_boolean()) return jinja::Value(json.get<bool>());
  if (json.is_string()) return text_value(json.get_ref<const std::string&>(), mark);
  if (json.is_number()) return number_value(json);
  if (json.is_array()) {
    std::vector<jinja::Value> items;
    items.reserve(json.size());
    for (const auto& item : json) items.push_back(json_value(runtime, item, mark));
    return runtime.make_sequence(std::move(items));
  }
  std::vector<std::pair<jinja::Value, jinja::Value>> entries;
  for (const auto& [key, value] : json.items())
    entries.emplace_back(text_value(key, mark), json_value(runtime, value, mark));
  return runtime.make_dict(std::move(entries));
}

// Marks of contents tell messages apart; so many that two messages of one mark are far from each other.
constexpr size_t kNumContentMarks = 250;
static char content_mark(size_t message) {
  return static_cast<char>(jinja::kUserMark + 1 + message % kNumContentMarks);
}

// The roles that templates ask for are the template's own words; any other is a user's.
static jinja::Value role_value(std::string_view role) {
  static const std::array<jinja::Value, 8> kRoles = [] {
    std::array<jinja::Value, 8> values;
    constexpr std::array<std::string_view, 8> kNames = {"system",    "user",     "assistant", "tool",
                                                        "developer", "function", "ipython",   "observation"};
    std::transform(kNames.begin(), kNames.end(), values.begin(),
                   [](std::string_view name) { return text_value(name, jinja::kTemplateMark); });
    return values;
  }();
  for (const jinja::Value& known : kRoles)
    if (known.text()->bytes == role) return known;
  return text_value(role, jinja::kUserMark);
}

static jinja::Value message_value(jinja::Runtime& runtime, const Message& message, size_t index) {
  static const jinja::Value kRole = text_value("role", jinja::kTemplateMark);
  static const jinja::Value kContent = text_value("content", jinja::kTemplateMark);
  std::vector<std::pair<jinja::Value, jinja::Value>> entries;
  entries.reserve(2 + message.fields.size());
  entries.emplace_back(kRole, role_value(message.role));
  if (message.has_text) entries.emplace_back(kContent, text_value(message.content, content_mark(index)));
  const nlohmann::ordered_json* reasoning = nullptr;
  for (size_t i = 0; i < kReasoningKeys.size() && !reasoning && !message.fields.empty(); ++i)
    if (const auto found = message.fields.find(kReasoningKeys[i]); found != message.fields.end()) reasoning = &*found;
  for (const auto& [name, value] : message.fields.items()) {
    const bool is_content = name == "content";
    if (reasoning != nullptr && name == kReasoningKeys[0]) continue;
    entries.emplace_back(text_value(name, jinja::kUserMark),
                         json_value(runtime, value, is_content ? content_mark(index) : jinja::kUserMark));
  }
  if (reasoning != nullptr) {
    entries.emplace_back(text_value(kReasoningKeys[0], jinja::kTemplateMark),
                         json_value(runtime, *reasoning, jinja::kUserMark));
    if (!message.fields.contains(kReasoningKeys[1]))
      entries.emplace_back(text_value(kReasoningKeys[1], jinja::kTemplateMark),
                           json_value(runtime, *reasoning, jinja::kUserMark));
  }
  return runtime.make_dict(std::move(entries));
}

// The end of the bytes from `begin` on that have the same mark.
static size_t end_of_run(std::string_view marks, size_t begin) {
  uint64_t same = 0, word = 0;
  std::memset(&same, marks[begin], sizeof same);
  size_t at = begin + 1;
  for (; at + sizeof word <= marks.size(); at += sizeof word) {
    std::memcpy(&word, &marks[at], sizeof word);
    if (word != same) break;
  }
  while (at < marks.size() && marks[at] == marks[begin]) ++at;
  return at;
}

static std::vector<ByteRange> user_ranges(std::string_view marks) {
  std::vector<ByteRange> ranges;
  for (size_t begin = 0, end = 0; begin < marks.size(); begin = end) {
    end = end_of_run(marks, begin);
    if (marks[begin] == jinja::kTemplateMark) continue;
    if (!ranges.empty() && ranges.back().end == begin)
      ranges.back().end = end;
    else
      ranges.push_back({begin, end});
  }
  return ranges;
}

static std::vector<ByteRange> content_ranges(std::string_view marks, size_t num_messages) {
  std::vector<ByteRange> ranges(num_messages);
  size_t latest = 0;  // templates render messages in their order, but for a system text
  for (size_t begin = 0, end = 0; begin < marks.size(); begin = end) {
    end = end_of_run(marks, begin);
    const auto mark = static_cast<unsigned char>(marks[begin]);
    if (mark <= jinja::kUserMark) continue;
    size_t message = mark - jinja::kUserMark - 1;
    while (message < latest && message + kNumContentMarks < num_messages) message += kNumContentMarks;
    if (message >= num_messages) continue;
    latest = message;
    ByteRange& range = ranges[message];
    range = {range.end == 0 ? begin : range.begin, end};
  }
  return ranges;
}

// The ranges of spans of code points; those beyond the end of the text are cut off.
static std::vector<ByteRange> byte_ranges(const std::string& text, const std::vector<jinja::Span>& spans) {
  if (spans.empty()) return {};
  const std::vector<size_t> offsets = jinja::code_point_offsets(text);
  std::vector<ByteRange> ranges;
  for (const jinja::Span& span : spans)
    ranges.push_back(
        {offsets[std::min(span.begin, offsets.size() - 1)], offsets[std::min(span.end, offsets.size() - 1)]});
  return ranges;
}

MarkedText ChatTemplate::render(std::span<const Message> messages, bool adds_generation_prompt,
                                const TemplateInputs& inputs) const {
  return render_parts(messages, adds_generation_prompt, inputs).text;
}

RenderedChat ChatTemplate::render_parts(std::span<const Message> messages, bool adds_generation_prompt,
                                        const TemplateInputs& inputs) const {
  jinja::Runtime runtime(jinja::Limits(), program_->compiled_at);
  std::vector<jinja::Value> list;
  list.reserve(messages.size());
  for (const Message& message : messages) list.push_back(message_value(runtime, message, list.size()));
  const jinja::Template& source = program_->source;
  std::vector<std::pair<std::string, jinja::Value>> variables;
  variables.reserve(8);
  variables.emplace_back("messages", runtime.make_sequence(std::move(list)));
  variables.emplace_back("documents", jinja::None());
  variables.emplace_back("add_generation_prompt", adds_generation_prompt);
  const auto add = [&](const std::string& name, const nlohmann::ordered_json& value) {
    if (source.reads(name)) variables.emplace_back(name, json_value(runtime, value, jinja::kUserMark));
  };
  add("tools", inputs.tools);
  // as in transformers, a token that the tokenizer lacks is undefined, and a variable of the row goes over a token
  for (const auto& [name, token] : program_->special_tokens)
    if (!inputs.variables.contains(name) && !program_->variables.contains(name) && source.reads(name))
      variables.emplace_back(name, text_value(token, jinja::kTemplateMark));
  for (const auto& [name, value] : program_->variables.items())
    if (!inputs.variables.contains(name)) add(name, value);
  for (const auto& [name, value] : inputs.variables.items()) add(name, value);
  jinja::Rendering rendering = source.render_spans(variables, program_->compiled_at);
  RenderedChat chat;
  chat.generations = byte_ranges(rendering.text.bytes, rendering.generations);
  chat.contents = content_ranges(rendering.text.marks, messages.size());
  chat.text = {std::move(rendering.text.bytes), user_ranges(rendering.text.marks)};
  return chat;
}

ChatTemplate ChatTemplate::with_variables(nlohmann::ordered_json variables) const {
  const auto program = std::make_shared<Program>(*program_);
  if (program->training) {
    const auto training = std::make_shared<Program>(*program->training);
    training->variables = variables;
    program->training = training;
  }
  program->variables = std::move(variables);
  return ChatTemplate(program);
}

std::vector<std::string> ChatTemplate::unread_variables() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : program_->variables.items())
    if (!program_->source.reads(name)) names.push_back(name);
  return names;
}

bool ChatTemplate::reads(const std::string& variable) const { return program_->source.reads(variable); }

ChatTemplate ChatTemplate::for_training() const {
  return program_->training == nullptr ? *this : ChatTemplate(program_->training);
}

std::span<const std::string_view> ChatTemplate::trained_headers() const { return program_->trained_headers; }

bool ChatTemplate::has_generations() const { return program_->source.has_generations(); }

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
