// Renders conversations to text, with a named template or with a model's own `chat_template` (Jinja). The result marks
// the bytes that came from messages, so that user text never turns into control tokens.
// Source: transformers, PreTrainedTokenizerBase.apply_chat_template.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/text/message.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

struct RenderedChat {
  MarkedText text;
  std::vector<ByteRange> generations;  // what {% generation %} encloses, as transformers places it
  std::vector<ByteRange> contents;     // of each message: from the first to the last byte of its content; {0, 0}: none
};

class ChatTemplate {
 public:
  /// One of template_names(), with the tokenizer's BOS and EOS ("" if it has none). Throws UsageError that lists the
  /// known names and suggests the nearest.
  static ChatTemplate named(std::string_view name, std::string bos_token, std::string eos_token);

  /// Compiles a Jinja source. strftime_now() prints the local time of this call, so that all rows of a run see the same
  /// time. Throws DataError with the line for unsupported syntax or names, listing the supported ones.
  static ChatTemplate from_jinja(std::string_view source, std::string bos_token, std::string eos_token);
  /// The same with the tokenizer's special_tokens(), each of which is a variable: bos_token, pad_token, image_token ...
  static ChatTemplate from_jinja(std::string_view source, std::map<std::string, std::string> special_tokens);

  /// The named template or, for "", the tokenizer's own; none if it has none. Throws as the two above.
  static std::optional<ChatTemplate> find(const Tokenizer& tokenizer, std::string_view name);

  /// Renders the conversation; with `adds_generation_prompt`, the header of an assistant turn follows. Throws DataError
  /// if the template calls raise_exception or exceeds its limits on steps or output.
  MarkedText render(std::span<const Message> messages, bool adds_generation_prompt,
                    const TemplateInputs& inputs = {}) const;
  RenderedChat render_parts(std::span<const Message> messages, bool adds_generation_prompt,
                            const TemplateInputs& inputs = {}) const;

  /// The same template, which sees these variables too, unless the inputs of a rendering have others of the same names.
  ChatTemplate with_variables(nlohmann::ordered_json variables) const;
  /// The names of those of them that do not occur in the template.
  std::vector<std::string> unread_variables() const;
  /// True if the template's text has this variable.
  bool reads(const std::string& variable) const;

  /// True if the source has {% generation %}.
  bool has_generations() const;

  /// The template that renders what is trained of the assistant's turns: mostly this one.
  ChatTemplate for_training() const;
  /// Ends of the assistant's header that are trained too; none with {% generation %}.
  std::span<const std::string_view> trained_headers() const;

  /// True if the rendered text contains BOS itself, so that tokenization must not add special tokens again. Always true
  /// for Jinja sources (transformers' convention); each named template declares it.
  bool renders_special_tokens() const;

 private:
  struct Program;
  explicit ChatTemplate(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const Program> program_;
};

/// chatml, llama2, llama3, mistral, zephyr, alpaca, instructgpt.
std::span<const std::string> template_names();

}  // namespace plumb
