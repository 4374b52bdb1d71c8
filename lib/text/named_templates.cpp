#include "lib/text/named_templates.hpp"

namespace plumb {

// <|im_start|>role NEWLINE content<|im_end|> NEWLINE
constexpr std::string_view kChatml = R"({%- for message in messages -%}
  {{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
)";

// User and assistant turns alternate; BOS and EOS enclose each pair; the system text is part of the first user turn.
constexpr std::string_view kLlama2 = R"({%- set ns = namespace(system='', expected='user') -%}
{%- for message in messages -%}
  {%- if message.role == 'system' and loop.first -%}
    {%- set ns.system = '<<SYS>>\n' ~ message.content ~ '\n<</SYS>>\n\n' -%}
  {%- elif message.role != ns.expected -%}
    {{- raise_exception("template llama2: expected the role '" ~ ns.expected ~ "', found '" ~ message.role ~ "'; user and assistant take turns after at most one system message") -}}
  {%- elif message.role == 'user' -%}
    {{- bos_token ~ '[INST] ' ~ (ns.system ~ message.content) | trim ~ ' [/INST]' -}}
    {%- set ns.system = '' -%}
    {%- set ns.expected = 'assistant' -%}
  {%- else -%}
    {{- ' ' ~ message.content | trim ~ ' ' ~ eos_token -}}
    {%- set ns.expected = 'user' -%}
  {%- endif -%}
{%- endfor -%}
)";

// A header names the role of each turn, <|eot_id|> ends it.
constexpr std::string_view kLlama3 = R"({{- bos_token -}}
{%- for message in messages -%}
  {{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\n\n' ~ message.content | trim ~ '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{%- endif -%}
)";

// Version 3 of the instruct format, with the system text before the first user message.
constexpr std::string_view kMistral = R"({{- bos_token -}}
{%- set ns = namespace(system='', expected='user') -%}
{%- for message in messages -%}
  {%- if message.role == 'system' and loop.first -%}
    {%- set ns.system = message.content ~ '\n\n' -%}
  {%- elif message.role != ns.expected -%}
    {{- raise_exception("template mistral: expected the role '" ~ ns.expected ~ "', found '" ~ message.role ~ "'; user and assistant take turns after at most one system message") -}}
  {%- elif message.role == 'user' -%}
    {{- '[INST] ' ~ ns.system ~ message.content ~ '[/INST]' -}}
    {%- set ns.system = '' -%}
    {%- set ns.expected = 'assistant' -%}
  {%- else -%}
    {{- ' ' ~ message.content | trim ~ eos_token -}}
    {%- set ns.expected = 'user' -%}
  {%- endif -%}
{%- endfor -%}
)";

// <|role|> NEWLINE content EOS NEWLINE
constexpr std::string_view kZephyr = R"({%- for message in messages -%}
  {{- '<|' ~ message.role ~ '|>\n' ~ message.content ~ eos_token ~ '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|assistant|>\n' -}}
{%- endif -%}
)";

// A system message replaces the preamble. A message of role "input" after the first user message is the input of the
// instruction.
constexpr std::string_view kAlpaca = R"({%- set has_system = messages and messages[0].role == 'system' -%}
{%- set turns = messages[1:] if has_system else messages -%}
{%- if has_system -%}
  {{- messages[0].content ~ '\n\n' -}}
{%- elif turns | length > 1 and turns[1].role == 'input' and turns[1].content -%}
  {{- 'Below is an instruction that describes a task, paired with an input that provides further context. ' -}}
  {{- 'Write a response that appropriately completes the request.\n\n' -}}
{%- else -%}
  {{- 'Below is an instruction that describes a task. ' -}}
  {{- 'Write a response that appropriately completes the request.\n\n' -}}
{%- endif -%}
{%- for message in turns -%}
  {%- if message.role == 'user' -%}
    {{- '### Instruction:\n' ~ message.content ~ '\n\n' -}}
  {%- elif message.role == 'input' -%}
    {%- if message.content -%}
      {{- '### Input:\n' ~ message.content ~ '\n\n' -}}
    {%- endif -%}
  {%- elif message.role == 'assistant' -%}
    {{- '### Response:\n' ~ message.content ~ eos_token ~ ('' if loop.last else '\n\n') -}}
  {%- else -%}
    {{- raise_exception("template alpaca: expected the role 'user', 'input' or 'assistant', found '" ~ message.role ~ "'") -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- ('\n\n' if turns and turns[-1].role == 'assistant' else '') ~ '### Response:\n' -}}
{%- endif -%}
)";

// Plain text. The header "Answer:" has no trailing space: the space belongs to the first token of the answer.
constexpr std::string_view kInstructgpt = R"({%- for message in messages -%}
  {%- if message.role == 'system' -%}
    {{- message.content ~ '\n\n' if message.content else '' -}}
  {%- elif message.role == 'user' -%}
    {{- 'Question: ' ~ message.content ~ '\n\n' -}}
  {%- elif message.role == 'assistant' -%}
    {{- 'Answer: ' ~ message.content ~ eos_token ~ ('' if loop.last else '\n\n') -}}
  {%- else -%}
    {{- raise_exception("template instructgpt: expected the role 'system', 'user' or 'assistant', found '" ~ message.role ~ "'") -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- ('\n\n' if messages and messages[-1].role == 'assistant' else '') ~ 'Answer:' -}}
{%- endif -%}
)";

std::span<const NamedTemplate> named_templates() {
  static constexpr NamedTemplate kTemplates[] = {
      {"chatml", kChatml, false},           {"llama2", kLlama2, true},  {"llama3", kLlama3, true},
      {"mistral", kMistral, true},          {"zephyr", kZephyr, false}, {"alpaca", kAlpaca, false},
      {"instructgpt", kInstructgpt, false},
  };
  return kTemplates;
}

const NamedTemplate* find_named_template(std::string_view name) {
  for (const NamedTemplate& named : named_templates())
    if (named.name == name) return &named;
  return nullptr;
}

}  // namespace plumb
