#include "lib/text/training_templates.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace plumb {
namespace {

/// Hash of the template of DeepSeek-R1 itself, which TRL calls DeepSeek-V3's.
constexpr uint64_t kDeepSeekR1 = 0x56A138C31521E7C8;
/// Hash of Qwen2.5's template, whose other relatives are trained after the line break.
constexpr uint64_t kQwen2_5 = 0x639547FE4D33FA67;

/// In sources that have `mark`, the condition is replaced wherever it stands.
struct Edit {
  std::string_view mark;
  std::string_view condition;
  std::string_view replacement;
  uint64_t keeping_hash = 0;  // of a source that keeps the condition
};

constexpr std::array<Edit, 4> kEdits = {{
    // Qwen3 and later: thoughts before the last question are left out
    {"ns.last_query_index", "loop.index0 > ns.last_query_index", "true"},
    {"ns.last_query_index", "loop.last or (not loop.last and reasoning_content)", "true"},
    // DeepSeek-R1-Distill: all thoughts are left out
    {"<\uff5cAssistant\uff5c><think>", "'</think>' in content", "false", kDeepSeekR1},
    // DeepSeek: arguments of tools are dicts too
    {"<\uff5ctool\u2581calls\u2581begin\uff5c>", "+ tool['function']['arguments'] +",
     "+ (tool['function']['arguments'] if tool['function']['arguments'] is string else tool['function']['arguments'] | "
     "tojson) +"},
}};

/// A header of the assistant's turns that is trained, in sources that have `mark`.
struct Header {
  std::string_view mark;
  std::string_view header;
};

constexpr std::array<Header, 3> kHeaders = {{
    // DeepSeek-V3, R1 and its distilled models; the second comes after the answer of a tool
    {"<\uff5cAssistant\uff5c>", "<\uff5cAssistant\uff5c>"},
    {"<\uff5cAssistant\uff5c>", "<\uff5ctool\u2581outputs\u2581end\uff5c>"},
    {"<|start|>assistant", "<|start|>assistant"},  // gpt-oss, Muse
}};

}  // namespace

std::string training_source(std::string_view source) {
  std::string edited(source);
  const uint64_t hash = XXH3_64bits(source.data(), source.size());
  for (const Edit& edit : kEdits) {
    if (source.find(edit.mark) == std::string_view::npos || hash == edit.keeping_hash) continue;
    for (size_t at = edited.find(edit.condition); at != std::string::npos; at = edited.find(edit.condition, at)) {
      edited.replace(at, edit.condition.size(), edit.replacement);
      at += edit.replacement.size();
    }
  }
  return edited;
}

std::vector<std::string_view> trained_headers(std::string_view source) {
  if (XXH3_64bits(source.data(), source.size()) == kQwen2_5) return {"\n"};
  std::vector<std::string_view> headers;
  for (const Header& header : kHeaders) {
    if (source.find(header.mark) != std::string_view::npos) headers.push_back(header.header);
  }
  return headers;
}

}  // namespace plumb
