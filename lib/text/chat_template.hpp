// Conversations to text: the named templates and a model's own `chat_template` (the Jinja subset that such templates
// use). The result says which bytes came from the messages, so that user text never turns into control tokens.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

struct Message {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

class ChatTemplate {
 public:
  /// One of template_names(), with the tokenizer's BOS and EOS ("" for none). Throws UsageError with the known names,
  /// and the nearest.
  static ChatTemplate named(std::string_view name, std::string bos_token, std::string eos_token);

  /// Compiles a Jinja source. Throws DataError with line, and what is supported, for syntax or names that are not. What
  /// strftime_now prints is the local time of this call, so that all rows of a run see the same.
  static ChatTemplate from_jinja(std::string_view source, std::string bos_token, std::string eos_token);

  /// Renders the conversation; with `adds_generation_prompt` the header of an assistant's turn follows. Throws
  /// DataError where the template calls raise_exception or exceeds its budget of steps or output.
  MarkedText render(std::span<const Message> messages, bool adds_generation_prompt) const;

  /// True if the rendered text holds BOS itself, so that tokenizing it must not add special tokens again. Always true
  /// for Jinja sources (transformers' convention); the named templates say so each.
  bool renders_special_tokens() const;

 private:
  struct Program;
  explicit ChatTemplate(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const Program> program_;
};

/// chatml, llama2, llama3, mistral, zephyr, alpaca, instructgpt.
std::span<const std::string> template_names();

}  // namespace plumb
