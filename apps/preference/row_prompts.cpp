#include "apps/preference/row_prompts.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "apps/preference/prompts.hpp"
#include "io/records/record_file.hpp"
#include "lib/base/check.hpp"
#include "lib/text/pair.hpp"
#include "lib/text/row.hpp"
#include "lib/text/row_cells.hpp"

namespace plumb {

using nlohmann::json;

namespace {

json to_json(std::span<const Message> messages) {
  json list = json::array();
  for (const Message& message : messages) list.push_back({{"role", message.role}, {"content", message.content}});
  return list;
}

/// The common first messages of both texts. The last message of the shorter one is an answer, not a prompt.
json common_messages(const std::vector<Message>& chosen, const std::vector<Message>& rejected) {
  const size_t most = std::min(chosen.size(), rejected.size()) - 1;
  size_t count = 0;
  while (count < most && chosen[count].role == rejected[count].role && chosen[count].content == rejected[count].content)
    ++count;
  return to_json(std::span(chosen).first(count));
}

/// The prompts of the rows of one file, whose shape the first row determines.
class PromptForm {
 public:
  PromptForm(const json& first_row, const std::map<std::string, std::string>& columns, const DataOptions& data,
             const Tokenizer& tokenizer, const std::string& where)
      : format_(find_row_format(first_row, columns, where)) {
    if (format_.shape == RowShape::kText)
      throw_error<DataError>("{}: expected rows that ask something, got rows of {}", where, name_of(format_.shape));
    template_ = choose_template(format_, tokenizer, data.chat_template);
    sft_.parses_special_tokens = pair_.parses_special_tokens = data.parse_special_tokens;
  }

  json prompt_of(const json& row, const std::string& where) const {
    switch (format_.shape) {
      case RowShape::kPreference:
        return prompt_of_pair(row, where);
      case RowShape::kPromptCompletion:
        if (!format_.holds_messages) return text_cell(row, format_, "prompt", where);
        return to_json(messages_cell(row, format_, "prompt", where));
      case RowShape::kMessages: {
        std::vector<Message> messages = messages_cell(row, format_, "messages", where);
        if (messages.size() > 1 && messages.back().role == "assistant") messages.pop_back();
        return to_json(messages);
      }
      default:
        return prompt_of_question(row, where);
    }
  }

 private:
  json prompt_of_pair(const json& row, const std::string& where) const {
    if (!format_.holds_messages) return render_pair(row, format_, nullptr, pair_, where).prompt.text;
    if (format_.columns.contains("prompt") && !cell_of(row, format_, "prompt", where).is_string())
      return to_json(messages_cell(row, format_, "prompt", where));
    return common_messages(messages_cell(row, format_, "chosen", where),
                           messages_cell(row, format_, "rejected", where));
  }

  /// The prompt of an instruction or a question: text if the template renders no control tokens, else messages.
  json prompt_of_question(const json& row, const std::string& where) const {
    check(template_.has_value(), "instructions and questions have a template");
    if (template_->has_input_turn || !template_->chat.renders_special_tokens())
      return render_sft(row, format_, &*template_, sft_, where).prompt->text;
    std::vector<Message> messages;
    if (std::string system = optional_text_cell(row, format_, "system", where); !system.empty())
      messages.push_back({"system", std::move(system)});
    const bool is_instruction = format_.shape == RowShape::kInstruction;
    messages.push_back({"user", text_cell(row, format_, is_instruction ? "instruction" : "question", where)});
    if (const std::string input = optional_text_cell(row, format_, "input", where); !input.empty())
      messages.back().content += "\n" + input;
    return to_json(messages);
  }

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
        format_{RowShape::kPromptCompletion, holds_messages, {{"prompt", "prompt"}, {"completion", "completion"}}, {}},
        template_(choose_template(format_, tokenizer, holds_messages ? data.chat_template : "")) {
    options_.parses_special_tokens = data.parse_special_tokens;
  }

  std::vector<int32_t> encode(const RowPrompt& prompt, const std::string& where) const {
    const json row = {{"prompt", prompt.prompt}, {"completion", prompt.answer_cell("")}};
    const SftText text = render_sft(row, format_, template_ ? &*template_ : nullptr, options_, where);
    return tokenizer_.encode(*text.prompt, text.adds_special_tokens);
  }

 private:
  const Tokenizer& tokenizer_;
  RowFormat format_;
  std::optional<RowTemplate> template_;
  SftOptions options_;
};

}  // namespace

json RowPrompt::answer_cell(const std::string& text) const {
  if (!holds_messages()) return text;
  return json::array({{{"role", "assistant"}, {"content", text}}});
}

std::string RowPrompt::text() const {
  if (!holds_messages()) return prompt.get<std::string>();
  if (prompt.size() == 1) return prompt[0].at("content").get<std::string>();
  std::string text;
  for (const json& message : prompt) {
    if (!text.empty()) text += "\n";
    text += message.at("role").get<std::string>();
    text += ": ";
    text += message.at("content").get<std::string>();
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
      RowPrompt prompt{result.num_rows++, form->prompt_of(record->object, where), {}};
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
