#include "apps/preference/prompts.hpp"

#include <nlohmann/json.hpp>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"

namespace plumb {

using json = nlohmann::ordered_json;

namespace {

Prompt encode_prompt(const Tokenizer& tokenizer, const MarkedText& marked, bool adds_special_tokens,
                     const ModelConfig& config, std::string_view where) {
  Prompt prompt{marked.text, tokenizer.encode(marked, adds_special_tokens)};
  if (prompt.token_ids.empty()) throw_error<DataError>("{}: expected a prompt of at least one token, got none", where);
  if (std::ssize(prompt.token_ids) >= config.max_position_embeddings)
    throw_error<DataError>("{}: expected a prompt shorter than the model's {} positions, got {} tokens", where,
                           config.max_position_embeddings, prompt.token_ids.size());
  return prompt;
}

}  // namespace

void add_missing_answer(json& row, const std::map<std::string, std::string>& columns) {
  const auto column = [&](const char* role) {
    const auto named = columns.find(role);
    return named == columns.end() ? std::string(role) : named->second;
  };
  if (!row.is_object()) return;
  for (const auto& [asked, answered] :
       {std::pair{"prompt", "completion"}, {"instruction", "output"}, {"question", "answer"}}) {
    const auto cell = row.find(column(asked));
    if (cell == row.end() || row.contains(column(answered))) continue;
    const json answer = cell->is_array() ? json::array({{{"role", "assistant"}, {"content", ""}}}) : json("");
    row[column(answered)] = answer;
  }
}

Prompt make_prompt(const std::string& text, const std::string& system, const PromptOptions& options,
                   const Tokenizer& tokenizer, const ModelConfig& config) {
  check_utf8(text, "--prompt");
  check_utf8(system, "--system");
  const std::optional<ChatTemplate> chat = ChatTemplate::find(tokenizer, options.chat_template);
  MarkedText marked{text, {{0, text.size()}}};
  bool adds_special_tokens = true;
  if (!chat) {
    if (!system.empty())
      throw UsageError("--system: the model has no chat template to put it in; name one with --chat_template");
    if (!options.chat_template_kwargs.empty())
      throw UsageError("--chat_template_kwargs: the model has no chat template; name one with --chat_template");
  } else {
    std::vector<Message> messages;
    if (!system.empty()) messages.push_back({"system", system});
    messages.push_back({"user", text});
    marked = chat->with_variables(parse_template_variables(options.chat_template_kwargs)).render(messages, true);
    adds_special_tokens = !chat->renders_special_tokens();
  }
  if (options.parses_special_tokens) marked.user_ranges.clear();
  return encode_prompt(tokenizer, marked, adds_special_tokens, config, "--prompt");
}

PromptReader::PromptReader(const std::string& path, const PromptOptions& options, const Tokenizer& tokenizer,
                           const ModelConfig& config)
    : reader_(path, index_records(path)),
      tokenizer_(tokenizer),
      config_(config),
      columns_(parse_columns_option(options.columns)),
      template_name_(options.chat_template),
      template_variables_(options.chat_template_kwargs) {
  options_.parses_special_tokens = options.parses_special_tokens;
}

std::optional<Prompt> PromptReader::next() {
  std::optional<Record> record = reader_.next();
  if (!record) return std::nullopt;
  const std::string where = reader_.where(*record);
  json& row = record->object;
  add_missing_answer(row, columns_);
  if (!format_) {
    format_ = find_row_format(row, columns_, where, RowUse::kSft);
    template_ = choose_template(*format_, tokenizer_, template_name_, template_variables_);
  }
  const PromptText prompt = render_prompt(row, *format_, template_ ? &*template_ : nullptr, options_, where);
  return encode_prompt(tokenizer_, prompt.text, prompt.adds_special_tokens, config_, where);
}

}  // namespace plumb
