#include "apps/rewards/rewards.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <set>

#include "apps/rewards/exact_number.hpp"
#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"
#include "lib/text/text_pattern.hpp"
#include "lib/tokenizer/unicode_form.hpp"

namespace plumb {

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

/// NFC, trimmed, each run of white space as one blank, and lowercase if asked for.
std::string normalized(std::string_view text, bool ignores_case) {
  const std::string composed = to_unicode_form(replace_invalid_utf8(text), UnicodeForm::kNfc);
  std::string out;
  bool has_gap = false;
  for (size_t at = 0; at < composed.size();) {
    const CodePoint point = code_point_at(composed, at);
    at += point.size_bytes;
    if (is_white_space(point.value)) {
      has_gap = !out.empty();
      continue;
    }
    if (has_gap) out += ' ';
    has_gap = false;
    if (ignores_case)
      append_lowercase(out, point.value);
    else
      append_code_point(out, point.value);
  }
  return out;
}

/// The answers of a row as text: a text, a number, or a list of them, any of which is right.
std::vector<std::string> answers_of(const nlohmann::ordered_json& row, const std::string& column,
                                    std::string_view where) {
  const auto found = row.is_object() ? row.find(column) : row.end();
  if (!row.is_object() || found == row.end() || found->is_null())
    throw_error<DataError>("{}: expected the answer in the column \"{}\", got none; --answer_column names another",
                           where, column);
  std::vector<std::string> answers;
  const auto add = [&](const nlohmann::ordered_json& value) {
    if (!value.is_string() && !value.is_number())
      throw_error<DataError>("{}: {}: expected text, a number or a list of them, got {}", where, column,
                             value.type_name());
    answers.push_back(value.is_string() ? value.get<std::string>() : value.dump());
  };
  if (found->is_array())
    for (const nlohmann::ordered_json& value : *found) add(value);
  else
    add(*found);
  if (answers.empty()) throw_error<DataError>("{}: {}: expected at least one answer, got an empty list", where, column);
  return answers;
}

double match_reward(const RewardOptions& options, const TextPattern* pattern, std::string_view completion,
                    const std::vector<std::string>& answers) {
  std::string given(completion);
  if (pattern) given = pattern->last_in(completion).value_or("");
  given = normalized(given, options.ignores_case);
  if (given.empty()) return 0;  // nothing is no answer, whatever the row has
  const auto is_right = [&](const std::string& answer) { return normalized(answer, options.ignores_case) == given; };
  return std::any_of(answers.begin(), answers.end(), is_right) ? 1 : 0;
}

/// none where no answer of the row has a number.
double number_reward(bool needs_mark, std::string_view completion, const std::vector<std::string>& answers) {
  const std::optional<ExactNumber> given = needs_mark ? marked_number(completion) : last_number(completion);
  bool has_gold = false, is_right = false;
  for (const std::string& answer : answers) {
    std::optional<ExactNumber> gold = marked_number(answer);
    if (!gold) gold = last_number(answer);
    has_gold = has_gold || gold;
    is_right = is_right || (gold && given && *gold == *given);
  }
  return !has_gold ? kNone : is_right ? 1 : 0;
}

size_t count_of(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

size_t num_characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

double think_reward(std::string_view text) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  if (!text.starts_with(kOpen)) return 0;
  text.remove_prefix(kOpen.size());
  return text.find(kOpen) == std::string_view::npos && text.find(kClose) != std::string_view::npos ? 1 : 0;
}

/// Whether each of the tags occurs once, one behind the other.
bool has_one_pair(std::string_view text, std::string_view open, std::string_view close) {
  return count_of(text, open) == 1 && count_of(text, close) == 1 && text.find(open) < text.find(close);
}

double tags_reward(std::string_view text) {
  return (has_one_pair(text, "<think>", "</think>") ? 0.25 : 0) +
         (has_one_pair(text, "<answer>", "</answer>") ? 0.75 : 0);
}

double overlong_reward(int64_t num_tokens, int64_t most, int64_t cache) {
  if (num_tokens <= most - cache) return 0;
  if (num_tokens > most) return -1;
  return static_cast<double>(most - cache - num_tokens) / static_cast<double>(cache);
}

/// Short right answers are worth most, short wrong ones least.
double cosine_reward(double is_correct, int64_t num_tokens, int64_t most) {
  if (std::isnan(is_correct)) return kNone;
  const double progress = std::min(static_cast<double>(num_tokens) / static_cast<double>(most), 1.0);
  const double cosine = std::cos(progress * std::numbers::pi);
  const double at_end = is_correct > 0 ? 0.5 : -0.5, at_start = is_correct > 0 ? 1.0 : -1.0;
  return at_end + 0.5 * (at_start - at_end) * (1 + cosine);
}

double repetition_reward(std::span<const int32_t> ids, int64_t size) {
  if (std::ssize(ids) < size) return 0;
  const auto less = [size](const int32_t* a, const int32_t* b) {
    return std::lexicographical_compare(a, a + size, b, b + size);
  };
  std::set<const int32_t*, decltype(less)> unique(less);
  const int64_t total = std::ssize(ids) - size + 1;
  for (int64_t i = 0; i < total; ++i) unique.insert(ids.data() + i);
  return static_cast<double>(std::ssize(unique)) / static_cast<double>(total) - 1;
}

}  // namespace

RewardFunctions::RewardFunctions(const RewardOptions& options) : options_(options) {
  const auto compile = [](const std::string& expression, const char* option) {
    return expression.empty() ? nullptr : std::make_unique<TextPattern>(expression, option);
  };
  answer_pattern_ = compile(options.answer_pattern, "--answer_pattern");
  regex_ = compile(options.regex, "--reward_pattern");
  format_pattern_ = compile(options.format_pattern, "--format_pattern");
}

RewardFunctions::~RewardFunctions() = default;

std::vector<std::string> RewardFunctions::names() const {
  std::vector<std::string> names;
  for (const RewardFunction function : options_.functions) names.emplace_back(name_of(function));
  return names;
}

std::vector<double> RewardFunctions::operator()(const RewardInput& input, std::string_view where) const {
  std::vector<double> rewards;
  for (const RewardFunction function : options_.functions) rewards.push_back(reward(function, input, where));
  return rewards;
}

void RewardFunctions::check_row(const nlohmann::ordered_json& row, std::string_view where) const {
  if (options_.needs_answer()) answers_of(row, options_.answer_column, where);
}

double RewardFunctions::reward(RewardFunction function, const RewardInput& input, std::string_view where) const {
  const std::string_view text = input.completion;
  const int64_t num_tokens = std::ssize(input.completion_ids), most = options_.max_completion_length;
  const auto answers = [&] { return answers_of(input.row, options_.answer_column, where); };
  switch (function) {
    case RewardFunction::kMatch:
      return match_reward(options_, answer_pattern_.get(), text, answers());
    case RewardFunction::kNumber:
      return number_reward(options_.needs_answer_mark, text, answers());
    case RewardFunction::kRegex:
      return regex_->is_found_in(text) ? 1 : 0;
    case RewardFunction::kFormat:
      return format_pattern_->matches(text) ? 1 : 0;
    case RewardFunction::kThink:
      return think_reward(text);
    case RewardFunction::kTags:
      return tags_reward(text);
    case RewardFunction::kOverlong:
      return overlong_reward(num_tokens, most, options_.overlong_cache);
    case RewardFunction::kCosine:
      return cosine_reward(number_reward(options_.needs_answer_mark, text, answers()), num_tokens, most);
    case RewardFunction::kRepetition:
      return repetition_reward(input.completion_ids, options_.repetition_ngram);
    case RewardFunction::kTruncated:
      return input.is_truncated ? options_.truncated_reward : 0;
    case RewardFunction::kLength:
      return static_cast<double>(num_tokens);
    case RewardFunction::kCount:
      return static_cast<double>(count_of(text, options_.count_text));
    case RewardFunction::kShare:
      return static_cast<double>(count_of(text, options_.count_text) * num_characters(options_.count_text)) /
             static_cast<double>(std::max<size_t>(num_characters(text), 1));
    case RewardFunction::kProgram:
      return kNone;
  }
  throw std::logic_error("a reward function without a formula");
}

}  // namespace plumb
