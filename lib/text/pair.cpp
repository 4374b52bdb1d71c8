#include "lib/text/pair.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"
#include "lib/text/common_tokens.hpp"
#include "lib/text/conversation.hpp"
#include "lib/text/row_cells.hpp"
#include "lib/text/text_end.hpp"

namespace plumb {
namespace {

using json = nlohmann::ordered_json;

/// The size of the common prompt: the common prefix of both texts, without a space at its end. If one text is a prefix
/// of the other, the prompt excludes its last character, so that neither answer is empty.
size_t common_prompt_bytes(const std::string& chosen, const std::string& rejected) {
  const size_t size = std::min(chosen.size(), rejected.size());
  if (size == 0) return 0;
  const auto end = chosen.begin() + static_cast<std::ptrdiff_t>(size);
  auto at = static_cast<size_t>(std::mismatch(chosen.begin(), end, rejected.begin()).first - chosen.begin());
  if (at == size) return code_point_before(chosen, size);
  while (at > 0 && (static_cast<unsigned char>(chosen[at]) & 0xC0) == 0x80) --at;  // compare characters, not bytes
  return at > 0 && chosen[at - 1] == ' ' ? at - 1 : at;
}

bool are_empty(std::span<const Message> answer) {
  return std::all_of(answer.begin(), answer.end(),
                     [](const Message& message) { return message.content.empty() && message.fields.empty(); });
}

PairText text_pair(const json& row, const RowFormat& format, const PairOptions& options, std::string_view where) {
  const std::string& chosen = text_cell(row, format, "chosen", where);
  const std::string& rejected = text_cell(row, format, "rejected", where);
  const bool has_prompt = format.columns.contains("prompt");
  const std::string& begin = has_prompt ? text_cell(row, format, "prompt", where) : chosen;
  const size_t prompt_bytes = has_prompt ? begin.size() : common_prompt_bytes(chosen, rejected);
  const auto marked = [&](std::string text) { return plain_text(std::move(text), options.parses_special_tokens); };
  PairText pair;
  pair.has_empty_answer = chosen.empty() || rejected.empty();
  pair.asks_nothing = has_prompt && is_blank(begin);
  pair.prompt = marked(begin.substr(0, prompt_bytes));
  pair.chosen = marked(has_prompt ? begin + chosen : chosen);
  pair.rejected = marked(has_prompt ? begin + rejected : rejected);
  pair.appends_eos = true;
  return pair;
}

PairText conversation_pair(const json& row, const RowFormat& format, const RowTemplate* row_template,
                           const PairOptions& options, std::string_view where) {
  const TemplateInputs inputs = template_inputs(row, format, where);
  const RowTemplate& given = required_template(row_template, inputs, where);
  const PairTurns turns = pair_turns(row, format, given.has_input_turn, where);
  if (turns.num_prompt == 0 && !options.drops_long_pairs) {
    throw_error<DataError>(
        "{}: expected chosen and rejected to begin with the same turns, got others; they answer one prompt", where);
  }
  const auto render = [&](std::span<const Message> messages, bool adds_generation_prompt) {
    return render_messages(given.chat, messages, adds_generation_prompt, inputs, options.parses_special_tokens, where)
        .text;
  };
  const std::span<const Message> chosen(turns.chosen), rejected(turns.rejected);
  PairText pair;
  pair.has_empty_answer = are_empty(chosen.subspan(turns.num_prompt)) || are_empty(rejected.subspan(turns.num_prompt));
  pair.asks_nothing = asks_nothing(chosen.first(turns.num_prompt));
  if (turns.num_prompt > 0) pair.prompt = render(chosen.first(turns.num_prompt), true);
  pair.chosen = render(chosen, false);
  pair.rejected = render(rejected, false);
  pair.adds_special_tokens = !given.chat.renders_special_tokens();
  pair.turn_end = given.turn_end;
  return pair;
}

/// Throws DataError for a prompt or margin that the first row lacks: the first row decides for all.
void check_no_new_columns(const json& row, const RowFormat& format, std::string_view where) {
  constexpr std::array<const char*, 5> kAsking = {"prompt", "messages", "conversations", "instruction", "question"};
  const auto check_absent = [&](const char* column) {
    const auto cell = row.find(column);
    const bool is_used = std::any_of(format.columns.begin(), format.columns.end(),
                                     [&](const auto& entry) { return entry.second == column; });
    if (cell == row.end() || cell->is_null() || is_used) return;
    throw_error<DataError>("{}: expected no column \"{}\", as in the first row, got one; all rows have it or none",
                           where, column);
  };
  const bool is_asked =
      std::any_of(kAsking.begin(), kAsking.end(), [&](const char* role) { return format.columns.contains(role); });
  if (!is_asked) std::for_each(kAsking.begin(), kAsking.end(), check_absent);
  if (!format.columns.contains("margin")) check_absent("margin");
}

PairDropReason find_drop_reason(const PairExample& example, bool has_empty_answer, size_t max_tokens,
                                bool drops_long_pairs) {
  const size_t longest = std::max(example.chosen.size(), example.rejected.size());
  const size_t shortest = std::min(example.chosen.size(), example.rejected.size());
  const auto prompt_length = static_cast<size_t>(example.prompt_length);
  if (has_empty_answer) return PairDropReason::kEmptyCompletion;
  if (example.chosen == example.rejected) return PairDropReason::kIdentical;
  // the first token is never predicted
  if (shortest <= std::max<size_t>(prompt_length, 1)) return PairDropReason::kEmptyCompletion;
  if (drops_long_pairs) return longest > max_tokens ? PairDropReason::kTooLong : PairDropReason::kNone;
  if (std::max<size_t>(prompt_length, 1) >= max_tokens) return PairDropReason::kPromptTooLong;
  const bool is_same_once_cut =
      shortest >= max_tokens && count_common_tokens(example.chosen, example.rejected) >= max_tokens;
  return is_same_once_cut ? PairDropReason::kIdenticalOnceCut : PairDropReason::kNone;
}

}  // namespace

PairText render_pair(const json& row, const RowFormat& format, const RowTemplate* row_template,
                     const PairOptions& options, std::string_view where) {
  if (format.shape != RowShape::kPreference) {
    throw_error<UsageError>("{}: expected preference pairs, got rows of {}", where, name_of(format.shape));
  }
  check_row(row, format, where);
  check_no_new_columns(row, format, where);
  PairText pair;
  if (format.is_conversation) {
    pair = conversation_pair(row, format, row_template, options, where);
  } else {
    pair = text_pair(row, format, options, where);
  }
  if (format.columns.contains("margin")) pair.margin = number_cell(row, format, "margin", where);
  return pair;
}

PairExample tokenize_pair(const PairText& text, const Tokenizer& tokenizer, const PairOptions& options) {
  if (options.max_length < 0) {
    throw_error<UsageError>("max_length: expected a number of tokens, or 0 to keep all; got {}", options.max_length);
  }
  PairExample example;
  const auto encode = [&](const MarkedText& given) {
    const size_t prompt_bytes = std::min(text.prompt.text.size(), given.text.size());
    const MarkedText full = text.appends_eos ? with_eos(given, prompt_bytes, tokenizer.eos_token()) : given;
    std::vector<int32_t> ids = tokenizer.encode(full, text.adds_special_tokens);
    const TokenNotes notes = find_token_notes(full, ids, tokenizer);
    if (example.notes.spelled_control_token.empty()) {
      example.notes.spelled_control_token = notes.spelled_control_token;
    }
    example.notes.has_second_bos |= notes.has_second_bos;
    return ids;
  };
  example.margin = text.margin;
  example.chosen = encode(text.chosen);
  example.rejected = encode(text.rejected);
  const std::vector<int32_t> prompt = tokenizer.encode(text.prompt, text.adds_special_tokens);
  const size_t prompt_length =
      std::min(count_common_tokens(prompt, example.chosen), count_common_tokens(prompt, example.rejected));
  example.prompt_length = static_cast<int64_t>(prompt_length);
  example.prompt_is_prefix = prompt_length == prompt.size();

  const size_t longest = std::max(example.chosen.size(), example.rejected.size());
  const size_t max_tokens = options.max_length == 0 ? longest + 1 : static_cast<size_t>(options.max_length);
  example.drop_reason = find_drop_reason(example, text.has_empty_answer, max_tokens, options.drops_long_pairs);
  if (example.drop_reason != PairDropReason::kNone) return example;

  example.is_truncated = longest > max_tokens;
  example.ends_in_eos = true;
  for (std::vector<int32_t>* ids : {&example.chosen, &example.rejected}) {
    ids->resize(std::min(ids->size(), max_tokens));
    const std::optional<size_t> eos = find_final_end(*ids, tokenizer, text.turn_end);
    if (!eos || *eos < prompt_length) example.ends_in_eos = false;
  }
  return example;
}

}  // namespace plumb
