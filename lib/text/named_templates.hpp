// The built-in chat templates, in Jinja and in plumb's own words, run by the same engine as a model's own template. All
// of them keep what they rendered when an answer or a further question is added, so that prefixes tell turns apart.
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

}  // namespace plumb
