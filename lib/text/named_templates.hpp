// The built-in chat templates, written in Jinja for plumb and run by the same engine as a model's own template.
// Appending an answer or another question never changes the text rendered before it, so that the ranges of turns can be
// found from rendered prefixes.
// Source: the prompt formats published with ChatML, Llama 2 and 3, Mistral, Zephyr and Stanford Alpaca.
#pragma once

#include <span>
#include <string_view>

namespace plumb {

struct NamedTemplate {
  std::string_view name;
  std::string_view source;
  bool renders_bos;
};

std::span<const NamedTemplate> named_templates();

/// Null if there is none of that name.
const NamedTemplate* find_named_template(std::string_view name);

}  // namespace plumb
