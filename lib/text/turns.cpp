#include "lib/text/turns.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/base/strict_json.hpp"

namespace plumb {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxMessages = 4096;  // rendering is quadratic in the turns: each assistant turn renders its prefix

/// Roles as rows spell them, and as templates know them.
constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kRoles = {{{"system", "system"},
                                                                                   {"user", "user"},
                                                                                   {"human", "user"},
                                                                                   {"assistant", "assistant"},
                                                                                   {"gpt", "assistant"},
                                                                                   {"chatgpt", "assistant"},
                                                                                   {"model", "assistant"},
                                                                                   {"function_call", "assistant"},
                                                                                   {"tool", "tool"},
                                                                                   {"tool_response", "tool"},
                                                                                   {"observation", "tool"},
                                                                                   {"function", "function"},
                                                                                   {"ipython", "ipython"},
                                                                                   {"developer", "developer"}}};

/// Keys of a turn that say whether it is trained.
constexpr std::array<const char*, 3> kMarks = {"weight", "train", "loss"};

class TurnParser {
 public:
  TurnParser(const Json& turn, const std::string& where) : turn_(turn), where_(where) {
    if (!turn.is_object()) throw_error<DataError>("{}: expected an object, got {}", where, turn.type_name());
    is_sharegpt_ = turn.contains("from") && !turn.contains("role");
    role_key_ = is_sharegpt_ ? "from" : "role";
    content_key_ = is_sharegpt_ ? "value" : "content";
  }

  Message parse() {
    const Json& role = find(role_key_);
    if (!role.is_string()) throw_error<DataError>("{}: {}: expected text, got {}", where_, role_key_, role.type_name());
    const std::string& name = role.get_ref<const std::string&>();
    message_.role = known_role(name);
    for (const auto& [key, value] : turn_.items()) {
      if (key == role_key_ || key == content_key_ || value.is_null()) continue;
      if (key == "role" || key == "content") {
        if (is_null_or_empty(value)) continue;
        throw_error<DataError>("{}: expected from and value, or role and content; got from and \"{}\"", where_, key);
      }
      message_.fields[key] = value;
    }
    if (is_sharegpt_ && name == "function_call") {
      read_function_call();
    } else {
      read_content();
    }
    read_marks();
    return std::move(message_);
  }

 private:
  const Json& find(const char* key) const {
    const auto value = turn_.find(key);
    if (value == turn_.end()) {
      throw_error<DataError>("{}: expected the keys role and content (or from and value), got no \"{}\"", where_, key);
    }
    return *value;
  }

  std::string known_role(const std::string& name) const {
    for (const auto& [spelled, known] : kRoles) {
      // other trainers write down whole conversations: only ShareGPT has names of its own for the roles of tools
      const bool is_own = spelled == name && (is_sharegpt_ || spelled != "observation");
      if (is_own) return std::string(known);
    }
    if (name == "observation") return name;
    throw_error<DataError>(
        "{}: expected a role among system, user, assistant, tool, developer, function, observation, human, gpt; got "
        "\"{}\"",
        where_, name);
  }

  void read_content() {
    const auto content = turn_.find(content_key_);
    if (may_lack_content() && (content == turn_.end() || content->is_null())) {
      message_.has_text = false;
      if (content != turn_.end()) message_.fields["content"] = nullptr;  // templates tell it from none at all
      return;
    }
    const Json& value = find(content_key_);
    if (value.is_string()) {
      message_.content = value.get<std::string>();
      return;
    }
    if (!value.is_array()) {
      throw_error<DataError>(
          "{}: {}: expected text, got {}{}", where_, content_key_, value.type_name(),
          message_.fields.contains("function_call") ? "; write the call of a function as a list tool_calls" : "");
    }
    for (const Json& part : value) message_.content += text_of_part(part);
    message_.has_text = false;
    message_.fields["content"] = value;
  }

  /// True for a turn of calls or thoughts alone.
  bool may_lack_content() const {
    const auto calls = message_.fields.find("tool_calls");
    if (calls != message_.fields.end() && !calls->is_array()) {
      throw_error<DataError>("{}: tool_calls: expected a list of calls, got {}{}", where_, calls->type_name(),
                             calls->is_string() ? "; write it as JSON, not as text" : "");
    }
    const auto has = [&](const char* key) {
      const auto field = message_.fields.find(key);
      return field != message_.fields.end() && !is_null_or_empty(*field);
    };
    return has("tool_calls") || std::any_of(kReasoningKeys.begin(), kReasoningKeys.end(), has);
  }

  std::string text_of_part(const Json& part) const {
    if (part.is_string()) return part.get<std::string>();
    const auto type = part.is_object() ? part.find("type") : part.end();
    const auto text = part.is_object() ? part.find("text") : part.end();
    const bool is_text =
        part.is_object() && text != part.end() && text->is_string() && (type == part.end() || *type == "text");
    if (is_text) return text->get<std::string>();
    const bool has_type = part.is_object() && type != part.end() && type->is_string();
    throw_error<DataError>("{}: {}: expected text, or parts of type text, got a part of type {}; only text is trained",
                           where_, content_key_, has_type ? type->get<std::string>() : std::string("unknown"));
  }

  /// ShareGPT's call of a function: the value is JSON with name and arguments, or a list of such.
  void read_function_call() {
    const Json& value = find(content_key_);
    const Json calls = parse_if_text(value, where_ + ": " + content_key_);
    Json list = Json::array();
    for (const Json& call : calls.is_array() ? calls : Json::array({calls})) {
      if (!call.is_object() || !call.contains("name")) {
        throw_error<DataError>("{}: {}: expected JSON with the keys name and arguments, got {}", where_, content_key_,
                               call.type_name());
      }
      list.push_back(Json{{"type", "function"}, {"function", call}});
    }
    message_.fields["tool_calls"] = std::move(list);
    message_.has_text = false;
  }

  void read_marks() {
    for (const char* key : kMarks) {
      const auto mark = message_.fields.find(key);
      if (mark == message_.fields.end() || is_null_or_empty(*mark)) continue;
      const bool is_number = mark->is_number() && (*mark == 0 || *mark == 1);
      if (!mark->is_boolean() && !is_number) {
        throw_error<DataError>("{}: {}: expected true, false, 0 or 1, got {}; a turn is trained or it is not", where_,
                               key, mark->is_structured() ? mark->type_name() : mark->dump());
      }
      const bool is_trained = is_number ? *mark == 1 : mark->get<bool>();
      message_.is_trained = message_.is_trained.value_or(true) && is_trained;
    }
  }

  const Json& turn_;
  const std::string& where_;
  bool is_sharegpt_ = false;
  const char* role_key_ = "";
  const char* content_key_ = "";
  Message message_;
};

void check_count(const Json& cell, const std::string& where) {
  if (cell.empty() || cell.size() > kMaxMessages) {
    throw_error<DataError>("{}: expected 1 to {} messages, got {}", where, kMaxMessages, cell.size());
  }
}

}  // namespace

bool is_null_or_empty(const Json& value) {
  return value.is_null() || value == "" || (value.is_structured() && value.empty());
}

Json parse_if_text(const Json& value, const std::string& where) {
  if (!value.is_string()) return value;
  return parse_strict_json<Json>(value.get_ref<const std::string&>(), [&](std::optional<size_t>, const auto& reason) {
    throw_error<DataError>("{}: {}", where, reason);
  });
}

std::vector<Message> parse_turns(const Json& cell, const std::string& where) {
  if (cell.is_object()) return {TurnParser(cell, where).parse()};
  if (!cell.is_array()) {
    throw_error<DataError>(
        "{}: expected a list of messages, got {}{}", where, cell.type_name(),
        cell.is_string() ? "; a table cannot hold one: use JSON Lines, and write it as JSON, not as text" : "");
  }
  check_count(cell, where);
  std::vector<Message> messages;
  for (const Json& turn : cell) {
    messages.push_back(TurnParser(turn, fmt::format("{}: message {}", where, messages.size())).parse());
  }
  return messages;
}

std::vector<Message> parse_history(const Json& cell, const std::string& where) {
  if (is_null_or_empty(cell)) return {};
  const Json list = parse_if_text(cell, where);
  if (!list.is_array() || (!list.empty() && list.front().is_object())) return parse_turns(list, where);
  std::vector<Message> messages;
  for (const Json& pair : list) {
    const std::string here = fmt::format("{}: pair {}", where, messages.size() / 2);
    const bool is_pair = pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string();
    if (!is_pair) throw_error<DataError>("{}: expected a list of a question and its answer", here);
    messages.push_back({"user", pair[0].get<std::string>()});
    messages.push_back({"assistant", pair[1].get<std::string>()});
  }
  if (messages.size() > kMaxMessages) {
    throw_error<DataError>("{}: expected at most {} messages, got {}", where, kMaxMessages, messages.size());
  }
  return messages;
}

}  // namespace plumb
