#include "apps/preference/row_prompts.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "apps/preference/prompts.hpp"
#include "io/records/record_file.hpp"
#include "lib/base/check.hpp"
#include "lib/text/conversation.hpp"
#include "lib/text/pair.hpp"
#include "lib/text/row.hpp"
#include "lib/text/row_cells.hpp"

namespace plumb {

using json = nlohmann::ordered_json;

namespace {

json to_json(std::span<const Message> messages) {
  json list = json::array();
  for (const Message& message : messages) {
    json turn = {{"role", message.role}};
    if (message.has_text) turn["content"] = message.content;
    turn.update(message.fields);
    list.push_back(std::move(turn));
  }
  return list;
}

/// The prompts of the rows of one file, whose shape the first row determines.
class PromptForm {
 public:
  PromptForm(const json& first_row, const std::map<std::string, std::string>& columns, const DataOptions& data,
             const Tokenizer& tokenizer, const std::string& where)
      : format_(find_row_format(first_row, columns, where)) {
    if (format_.shape == RowShape::kText)
      throw_error<DataError>("{}: expected rows that ask something, got rows of {}", where, name_of(format_.shape));
    template_ = choose_template(format_, tokenizer, data.chat_template, data.chat_template_kwargs);
    sft_.parses_special_tokens = pair_.parses_special_tokens = data.parse_special_tokens;
  }

  json prompt_of(const json& row, const std::string& where) const {
    const RowTemplate* row_template = template_ ? &*template_ : nullptr;
    if (!format_.is_conversation) {
      return format_.shape == RowShape::kPreference ? render_pair(row, format_, nullptr, pair_, where).prompt.text
                                                    : text_cell(row, format_, "prompt", where);
    }
    const bool asks_text = format_.columns.contains("instruction") || format_.columns.contains("question");
    const bool is_text = template_ && (template_->has_input_turn || !template_->chat.renders_special_tokens());
    if (asks_text && is_text) return render_prompt(row, format_, row_template, sft_, where).text.text;
    return to_json(question_turns(row, format_, /*has_input_turn=*/false, where));
  }

  /// The inputs of the template other than the messages, as columns.
  json inputs_of(const json& row) const {
    json inputs = json::object();
    for (const char* role : {"tools", "chat_template_kwargs"}) {
      if (const json* cell = find_cell(row, format_, role)) inputs[role] = *cell;
    }
    return inputs;
  }

 private:
  RowFormat format_;
  std::optional<RowTemplate> template_;
  SftOptions sft_;
  PairOptions pair_;
};

/// Token ids of prompts, rendered as in training.
class PromptEncoder {
 public:
  PromptEncoder(bool holds_messages, const DataOptions& data, const Tokenizer& tokenizer)
      : tokenizer_(tokenizer),
        format_{RowShape::kPromptCompletion,
                holds_messages,
                {{"prompt", "prompt"}, {"tools", "tools"}, {"chat_template_kwargs", "chat_template_kwargs"}},
                {},
                {}},
        template_(holds_messages ? choose_template(format_, tokenizer, data.chat_template, data.chat_template_kwargs)
                                 : choose_template(format_, tokenizer)) {
    options_.parses_special_tokens = data.parse_special_tokens;
  }

  std::vector<int32_t> encode(const RowPrompt& prompt, const std::string& where) const {
    json row = {{"prompt", prompt.prompt}};
    row.update(prompt.inputs);
    const PromptText text = render_prompt(row, format_, template_ ? &*template_ : nullptr, options_, where);
    return tokenizer_.encode(text.text, text.adds_special_tokens);
  }

 private:
  const Tokenizer& tokenizer_;
  RowFormat format_;
  std::optional<RowTemplate> template_;
  SftOptions options_;
};

}  // namespace

/// The content of a message as human-readable text.
static std::string text_of(const json& message) {
  const auto content = message.find("content");
  if (content == message.end()) return "";
  return content->is_string() ? content->get<std::string>() : content->dump();
}

json RowPrompt::answer_cell(const std::string& text) const {
  if (!holds_messages()) return text;
  return json::array({{{"role", "assistant"}, {"content", text}}});
}

std::string RowPrompt::text() const {
  if (!holds_messages()) return prompt.get<std::string>();
  if (prompt.size() == 1) return text_of(prompt[0]);
  std::string text;
  for (const json& message : prompt) {
    if (!text.empty()) text += "\n";
    text += message.at("role").get<std::string>();
    text += ": ";
    text += text_of(message);
  }
  return text;
}

std::vector<std::vector<int32_t>> RowPrompts::token_ids() const {
  std::vector<std::vector<int32_t>> ids;
  ids.reserve(prompts.size());
  for (const RowPrompt& prompt : prompts) ids.push_back(prompt.token_ids);
  return ids;
}

RowPrompts read_row_prompts(const std::vector<std::string>& files, const DataOptions& data, const Tokenizer& tokenizer,
                            const ModelConfig& config, int64_t max_rows) {
  const std::map<std::string, std::string> columns = parse_columns_option(data.columns);
  const int64_t max_tokens =
      data.max_length > 0 ? std::min(data.max_length, config.max_position_embeddings) : config.max_position_embeddings;
  RowPrompts result;
  std::optional<PromptEncoder> encoder;
  bool holds_messages = false;
  for (const std::string& path : files) {
    if (result.num_rows == max_rows) break;
    RecordReader reader(path, index_records(path));
    std::optional<PromptForm> form;
    for (auto record = reader.next(); record && result.num_rows != max_rows; record = reader.next()) {
      const std::string where = reader.where(*record);
      add_missing_answer(record->object, columns);
      if (!form) form.emplace(record->object, columns, data, tokenizer, where);
      RowPrompt prompt{result.num_rows++, form->prompt_of(record->object, where), form->inputs_of(record->object), {}};
      if (prompt.prompt.empty() || prompt.prompt == "") {
        ++result.num_empty;
        continue;
      }
      if (!encoder) {
        holds_messages = prompt.holds_messages();
        encoder.emplace(holds_messages, data, tokenizer);
      }
      if (prompt.holds_messages() != holds_messages)
        throw_error<DataError>("{}: expected {}, as in the rows before, got {}", where,
                               holds_messages ? "messages" : "text", holds_messages ? "text" : "messages");
      prompt.token_ids = encoder->encode(prompt, where);
      if (prompt.token_ids.empty()) {
        ++result.num_empty;
      } else if (std::ssize(prompt.token_ids) >= max_tokens) {
        ++result.num_too_long;
      } else {
        result.prompts.push_back(std::move(prompt));
      }
    }
  }
  return result;
}

}  // namespace plumb
