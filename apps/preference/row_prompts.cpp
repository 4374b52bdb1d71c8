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

/// Instructions and questions become messages, unless the template of a pair would then be another: the default of
/// their shape, or one with a turn for the input.
PromptForm form_of(const RowFormat& format, const Tokenizer& tokenizer, const std::string& template_name,
                   const std::string& variables) {
  const std::optional<RowTemplate> chosen = choose_template(format, tokenizer, template_name, variables);
  if (!format.is_conversation) return PromptForm::kText;
  const bool is_default = template_name.empty() && !name_of_template(format, tokenizer, template_name).empty();
  if (!is_default && !(chosen && chosen->has_input_turn)) return PromptForm::kMessages;
  if (format.columns.contains("instruction")) return PromptForm::kInstruction;
  return format.columns.contains("question") ? PromptForm::kQuestion : PromptForm::kMessages;
}

/// The prompts of the rows of one file, whose shape the first row determines.
class PromptColumns {
 public:
  PromptColumns(const json& first_row, const std::map<std::string, std::string>& columns, const DataOptions& data,
                const Tokenizer& tokenizer, const std::string& where)
      : format_(find_row_format(first_row, columns, where)) {
    if (format_.shape == RowShape::kText)
      throw_error<DataError>("{}: expected rows that ask something, got rows of {}", where, name_of(format_.shape));
    form_ = form_of(format_, tokenizer, data.chat_template, data.chat_template_kwargs);
    pair_.parses_special_tokens = data.parse_special_tokens;
  }

  PromptForm form() const { return form_; }

  json columns_of(const json& row, const std::string& where) const {
    json columns = json::object();
    if (form_ == PromptForm::kText) {
      columns["prompt"] = format_.shape == RowShape::kPreference
                              ? render_pair(row, format_, nullptr, pair_, where).prompt.text
                              : text_cell(row, format_, "prompt", where);
    } else if (form_ == PromptForm::kMessages) {
      columns["prompt"] = to_json(question_turns(row, format_, /*has_input_turn=*/false, where));
    } else {
      question_turns(row, format_, /*has_input_turn=*/true, where);  // refuses what is wrong in the row
    }
    for (const auto& [role, column] : pair_format(form_).columns) {
      const json* cell = find_cell(row, format_, role.c_str());
      const bool is_asked = role != "prompt" && role != "chosen" && role != "rejected";
      if (is_asked && cell != nullptr) columns[role] = *cell;
    }
    return columns;
  }

 private:
  RowFormat format_;
  PromptForm form_ = PromptForm::kText;
  PairOptions pair_;
};

/// Token ids of prompts, rendered as in training.
class PromptEncoder {
 public:
  PromptEncoder(PromptForm form, const DataOptions& data, const Tokenizer& tokenizer)
      : tokenizer_(tokenizer),
        format_(question_format(form)),
        template_(form == PromptForm::kText
                      ? choose_template(format_, tokenizer)
                      : choose_template(format_, tokenizer, data.chat_template, data.chat_template_kwargs)) {
    options_.parses_special_tokens = data.parse_special_tokens;
  }

  std::vector<int32_t> encode(const RowPrompt& prompt, const std::string& where) const {
    const PromptText text = render_prompt(prompt.columns, format_, template_ ? &*template_ : nullptr, options_, where);
    return tokenizer_.encode(text.text, text.adds_special_tokens);
  }

 private:
  static RowFormat question_format(PromptForm form) {
    RowFormat format = pair_format(form);
    format.shape = form == PromptForm::kInstruction ? RowShape::kInstruction
                   : form == PromptForm::kQuestion  ? RowShape::kQuestion
                                                    : RowShape::kPromptCompletion;
    format.columns.erase("chosen");
    format.columns.erase("rejected");
    return format;
  }

  const Tokenizer& tokenizer_;
  RowFormat format_;
  std::optional<RowTemplate> template_;
  SftOptions options_;
};

bool is_empty(const RowPrompt& prompt) {
  const auto cell = prompt.columns.find("prompt");
  return cell != prompt.columns.end() && (cell->empty() || *cell == "");
}

}  // namespace

RowFormat pair_format(PromptForm form) {
  RowFormat format{RowShape::kPreference, form != PromptForm::kText, {}, {}, {}};
  std::vector<std::string> roles = {"chosen", "rejected", "tools", "chat_template_kwargs"};
  if (form == PromptForm::kText || form == PromptForm::kMessages) roles.push_back("prompt");
  if (form == PromptForm::kInstruction) roles.insert(roles.end(), {"instruction", "input", "system", "history"});
  if (form == PromptForm::kQuestion) roles.insert(roles.end(), {"question", "system", "history"});
  for (const std::string& role : roles) format.columns[role] = role;
  return format;
}

/// The content of a message as human-readable text.
static std::string text_of(const json& message) {
  const auto content = message.find("content");
  if (content == message.end()) return "";
  return content->is_string() ? content->get<std::string>() : content->dump();
}

json RowPrompt::answer_cell(const std::string& text) const {
  if (form != PromptForm::kMessages) return text;
  return json::array({{{"role", "assistant"}, {"content", text}}});
}

std::string RowPrompt::text() const {
  std::string text;
  const auto add_line = [&](const std::string& line) { text += (text.empty() ? "" : "\n") + line; };
  for (const char* role : {"instruction", "input", "question"}) {
    const auto cell = columns.find(role);
    if (cell != columns.end() && cell->is_string() && *cell != "") add_line(cell->get<std::string>());
  }
  const auto prompt = columns.find("prompt");
  if (prompt == columns.end()) return text;
  if (prompt->is_string()) return prompt->get<std::string>();
  if (prompt->size() == 1) return text_of(prompt->at(0));
  for (const json& message : *prompt) add_line(message.at("role").get<std::string>() + ": " + text_of(message));
  return text;
}

std::vector<std::vector<int32_t>> RowPrompts::token_ids() const {
  std::vector<std::vector<int32_t>> ids;
  ids.reserve(prompts.size());
  for (const RowPrompt& prompt : prompts) ids.push_back(prompt.token_ids);
  return ids;
}

RowPrompts read_row_prompts(const std::vector<std::string>& files, const DataOptions& data, const Tokenizer& tokenizer,
                            const ModelConfig& config, int64_t max_rows, bool keeps_rows) {
  const std::map<std::string, std::string> columns = parse_columns_option(data.columns);
  const int64_t max_tokens =
      data.max_length > 0 ? std::min(data.max_length, config.max_position_embeddings) : config.max_position_embeddings;
  RowPrompts result;
  std::optional<PromptEncoder> encoder;
  PromptForm first_form = PromptForm::kText;
  for (const std::string& path : files) {
    if (result.num_rows == max_rows) break;
    RecordReader reader(path, index_records(path));
    std::optional<PromptColumns> columns_of_file;
    for (auto record = reader.next(); record && result.num_rows != max_rows; record = reader.next()) {
      const std::string where = reader.where(*record);
      const json row = keeps_rows ? record->object : json();
      add_missing_answer(record->object, columns);
      if (!columns_of_file) columns_of_file.emplace(record->object, columns, data, tokenizer, where);
      RowPrompt prompt{
          result.num_rows++, columns_of_file->form(), columns_of_file->columns_of(record->object, where), {}, row};
      if (is_empty(prompt)) {
        ++result.num_empty;
        continue;
      }
      if (!encoder) {
        first_form = prompt.form;
        encoder.emplace(first_form, data, tokenizer);
      }
      if (prompt.form != first_form)
        throw_error<DataError>("{}: expected {}, as in the rows before, got {}", where, name_of(first_form),
                               name_of(prompt.form));
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
