#include "lib/text/conversation.hpp"

#include <algorithm>
#include <iterator>
#include <span>
#include <string>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/text/row_cells.hpp"
#include "lib/text/text_end.hpp"
#include "lib/text/turns.hpp"

namespace plumb {
namespace {

using json = nlohmann::ordered_json;

std::string place_of(const RowFormat& format, const char* role, std::string_view where) {
  return fmt::format("{}: column \"{}\"", where, format.columns.at(role));
}

std::string_view without_space(std::string_view text) {
  constexpr std::string_view kSpace = " \n\r\t";
  const size_t begin = std::min(text.find_first_not_of(kSpace), text.size());
  return text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

bool are_same_text(std::string_view a, std::string_view b) { return without_space(a) == without_space(b); }

/// An instruction and its input; one of them may be blank.
std::vector<Message> instruction_turns(const json& row, const RowFormat& format, bool has_input_turn,
                                       std::string_view where) {
  cell_of(row, format, "instruction", where);  // refuses a row without the column
  std::string instruction = optional_text_cell(row, format, "instruction", where);
  std::string input = optional_text_cell(row, format, "input", where);
  if (is_blank(instruction) && !is_blank(input)) instruction = std::exchange(input, "");
  if (instruction.empty() && find_cell(row, format, "instruction") == nullptr) {
    text_cell(row, format, "instruction", where);  // refuses null
  }
  std::vector<Message> turns = {{"user", std::move(instruction)}};
  if (!input.empty() && has_input_turn) {
    turns.push_back({"input", std::move(input)});
  } else if (!input.empty()) {
    turns.back().content += "\n" + input;
  }
  return turns;
}

/// The turns of the columns that ask, without system text and history.
std::vector<Message> asking_turns(const json& row, const RowFormat& format, bool has_input_turn,
                                  std::string_view where) {
  const auto has = [&](const char* role) { return format.columns.contains(role); };
  if (has("instruction")) return instruction_turns(row, format, has_input_turn, where);
  if (has("question")) return {{"user", text_cell(row, format, "question", where)}};
  if (has("messages")) return parse_turns(cell_of(row, format, "messages", where), place_of(format, "messages", where));
  if (!has("prompt")) return {};
  const json& prompt = cell_of(row, format, "prompt", where);
  if (prompt.is_structured()) return parse_turns(prompt, place_of(format, "prompt", where));
  return {{"user", text_cell(row, format, "prompt", where)}};
}

/// Puts system text and history before the turns. A conversation that has the same system text already keeps it.
void add_context(const json& row, const RowFormat& format, std::string_view where, std::vector<Message>& turns) {
  std::string system = optional_text_cell(row, format, "system", where);
  const bool has_system = !turns.empty() && turns.front().role == "system";
  if (has_system && !system.empty() && !are_same_text(system, turns.front().content)) {
    throw_error<DataError>("{}: expected the system text of the conversation, got another; leave one of them out",
                           place_of(format, "system", where));
  }
  std::vector<Message> before;
  if (!system.empty() && !has_system) before.push_back({"system", std::move(system)});
  std::vector<Message> history;
  if (const json* cell = find_cell(row, format, "history")) {
    history = parse_history(*cell, place_of(format, "history", where));
  }
  turns.insert(turns.begin() + (has_system ? 1 : 0), history.begin(), history.end());
  turns.insert(turns.begin(), std::make_move_iterator(before.begin()), std::make_move_iterator(before.end()));
}

size_t count_common(std::span<const Message> a, std::span<const Message> b) {
  const auto is_same = [](const Message& x, const Message& y) { return x.is_same_as(y); };
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end(), is_same).first - a.begin());
}

bool are_answers(std::span<const Message> turns) { return turns.front().role == "assistant"; }

void prepend(std::span<const Message> first, std::vector<Message>& turns) {
  turns.insert(turns.begin(), first.begin(), first.end());
}

/// The answers follow what asks. A conversation that holds an answer as well, as a copy, asks before it.
PairTurns join_answers(std::vector<Message> asking, PairTurns pair, std::string_view where) {
  for (const std::vector<Message>* answer : {&pair.chosen, &pair.rejected}) {
    const size_t size = answer->size();
    if (asking.size() <= size) continue;
    if (count_common(std::span(asking).last(size), *answer) == size) {
      asking.resize(asking.size() - size);
      break;
    }
  }
  if (asking.empty()) {
    throw_error<DataError>(
        "{}: expected a prompt, got answers alone; put it into a column prompt, messages or question, or before both "
        "answers",
        where);
  }
  prepend(asking, pair.chosen);
  prepend(asking, pair.rejected);
  pair.num_prompt = asking.size();
  return pair;
}

/// True if whole conversations hold all turns that ask, so that their column only repeats them.
bool repeats(std::span<const Message> asking, const PairTurns& pair) {
  for (const std::vector<Message>* whole : {&pair.chosen, &pair.rejected}) {
    if (count_common(asking, *whole) == asking.size()) return true;
  }
  const size_t num_common = count_common(pair.chosen, pair.rejected);
  return std::all_of(asking.begin(), asking.end(), [&](const Message& message) {
    return std::any_of(pair.chosen.begin(), pair.chosen.begin() + static_cast<std::ptrdiff_t>(num_common),
                       [&](const Message& turn) { return are_same_text(turn.content, message.content); });
  });
}

}  // namespace

std::vector<Message> context_turns(const json& row, const RowFormat& format, bool has_input_turn,
                                   std::string_view where) {
  std::vector<Message> turns = asking_turns(row, format, has_input_turn, where);
  add_context(row, format, where, turns);
  return turns;
}

bool asks_nothing(std::span<const Message> prompt) {
  return !prompt.empty() && prompt.back().role == "user" && prompt.back().has_text && is_blank(prompt.back().content);
}

std::vector<Message> answer_turns(const json& row, const RowFormat& format, const char* role, std::string_view where) {
  const json& cell = cell_of(row, format, role, where);
  if (cell.is_structured()) return parse_turns(cell, place_of(format, role, where));
  return {{"assistant", text_cell(row, format, role, where)}};
}

std::vector<Message> question_turns(const json& row, const RowFormat& format, bool has_input_turn,
                                    std::string_view where) {
  if (format.shape == RowShape::kPreference) {
    PairTurns pair = pair_turns(row, format, has_input_turn, where);
    pair.chosen.resize(pair.num_prompt);
    return std::move(pair.chosen);
  }
  std::vector<Message> turns = context_turns(row, format, has_input_turn, where);
  const bool is_whole = format.shape == RowShape::kMessages;
  if (is_whole && turns.size() > 1 && turns.back().role == "assistant") turns.pop_back();
  return turns;
}

PairTurns pair_turns(const json& row, const RowFormat& format, bool has_input_turn, std::string_view where) {
  PairTurns pair{answer_turns(row, format, "chosen", where), answer_turns(row, format, "rejected", where)};
  std::vector<Message> asking = asking_turns(row, format, has_input_turn, where);
  const bool has_answers = are_answers(pair.chosen) && are_answers(pair.rejected);
  const bool is_prompt = format.columns.contains("prompt") && cell_of(row, format, "prompt", where).is_structured();
  const bool is_repeated = !has_answers && !asking.empty() && repeats(asking, pair);
  if (has_answers || (is_prompt && !is_repeated)) {
    add_context(row, format, where, asking);
    pair = join_answers(std::move(asking), std::move(pair), where);
    if (format.columns.contains("messages") && pair.chosen[pair.num_prompt - 1].role == "assistant") {
      throw_error<DataError>(
          "{}: expected a conversation that chosen and rejected answer, got one that ends in an answer",
          place_of(format, "messages", where));
    }
    return pair;
  }
  if (!asking.empty() && !is_repeated) {
    throw_error<DataError>(
        "{}: expected the columns beside chosen and rejected to repeat how both conversations begin, got other text; "
        "leave them out, or give chosen and rejected as answers alone",
        where);
  }
  for (std::vector<Message>* whole : {&pair.chosen, &pair.rejected}) add_context(row, format, where, *whole);
  // the last turn of the shorter one is an answer, even where nothing differs
  pair.num_prompt =
      std::min({count_common(pair.chosen, pair.rejected), pair.chosen.size() - 1, pair.rejected.size() - 1});
  return pair;
}

}  // namespace plumb
