// The built-in chat templates, in Jinja and in plumb's own words, run by the same engine as a model's own template. All
// of them keep what they rendered when a conversation grows at its end, so that turns can be told apart by prefixes.
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
