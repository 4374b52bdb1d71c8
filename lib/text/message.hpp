// A turn of a conversation, with all that its row says about it, and what else a chat template sees.
// Source: the messages of transformers' apply_chat_template.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace plumb {

/// The names under which transformers gives the reasoning of a message to templates: the first that has one counts.
inline constexpr std::array<const char*, 3> kReasoningKeys = {"reasoning_content", "thinking", "reasoning"};

struct Message {
  std::string role;     // "system", "user", "assistant", "tool", ...
  std::string content;  // the text, or the texts of its parts
  /// Further keys that the template sees, in the order of the row: tool_calls, reasoning_content, name, ...
  nlohmann::ordered_json fields = nlohmann::ordered_json::object();
  bool has_text = true;                 // false: the content is fields["content"], a list of parts or null, or absent
  std::optional<bool> is_trained = {};  // as a key of the turn says; else the options decide

  /// True if a template sees no difference.
  bool is_same_as(const Message& other) const {
    return role == other.role && content == other.content && has_text == other.has_text && fields == other.fields;
  }
};

/// Further variables of a template, beside the messages.
struct TemplateInputs {
  nlohmann::ordered_json tools = nullptr;                               // a list, or null
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();  // as chat_template_kwargs names them
};

}  // namespace plumb
