#include "apps/options/reward_options.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "lib/base/check.hpp"
#include "lib/text/text_pattern.hpp"

namespace plumb {

namespace {

/// A value that only one function reads: needed where the function is among the rewards, and a mistake elsewhere.
void require_pair(const std::string& value, std::string_view option, bool has_function, std::string_view function) {
  if (has_function && value.empty()) throw_error<UsageError>("--reward_funcs {}: give {}", function, option);
  if (!has_function && !value.empty())
    throw_error<UsageError>("{}: only --reward_funcs {} reads it; add that, or leave it away", option, function);
}

void validate_program(const RewardProgramOptions& program, bool has_program) {
  require_pair(program.command, "--reward_program", has_program, "program");
  if (!has_program && !program.wrapper.empty())
    throw_error<UsageError>("--reward_wrapper: only --reward_funcs program reads it; add that, or leave it away");
  if (!has_program) return;
  split_command(program.command, "--reward_program");
  if (!program.wrapper.empty()) split_command(program.wrapper, "--reward_wrapper");
  if (!(program.timeout_seconds > 0 && program.timeout_seconds <= 86400))
    throw_error<UsageError>("--reward_timeout: expected seconds above 0 and up to 86400, got {}",
                            program.timeout_seconds);
  if (program.max_memory_mb < 0)
    throw_error<UsageError>("--reward_memory_mb: expected at least 0, got {}", program.max_memory_mb);
}

}  // namespace

bool RewardOptions::has(RewardFunction function) const {
  return std::find(functions.begin(), functions.end(), function) != functions.end();
}

bool RewardOptions::needs_answer() const {
  return has(RewardFunction::kMatch) || has(RewardFunction::kNumber) || has(RewardFunction::kCosine);
}

bool is_verdict(RewardFunction function) {
  switch (function) {
    case RewardFunction::kMatch:
    case RewardFunction::kNumber:
    case RewardFunction::kRegex:
    case RewardFunction::kFormat:
    case RewardFunction::kThink:
    case RewardFunction::kTags:
    case RewardFunction::kProgram:
      return true;
    default:
      return false;
  }
}

void validate(const RewardOptions& options) {
  std::set<RewardFunction> seen;
  for (const RewardFunction function : options.functions)
    if (!seen.insert(function).second)
      throw_error<UsageError>("--reward_funcs: {} twice; give it once, with the sum of its weights", name_of(function));
  require_pair(options.regex, "--reward_pattern", options.has(RewardFunction::kRegex), "regex");
  require_pair(options.format_pattern, "--format_pattern", options.has(RewardFunction::kFormat), "format");
  require_pair(options.count_text, "--count_text",
               options.has(RewardFunction::kCount) || options.has(RewardFunction::kShare), "count or share");
  if (!options.answer_pattern.empty()) {
    require_pair(options.answer_pattern, "--answer_pattern", options.has(RewardFunction::kMatch), "match");
    const TextPattern pattern(options.answer_pattern, "--answer_pattern");
  }
  if (!options.regex.empty()) const TextPattern pattern(options.regex, "--reward_pattern");
  if (!options.format_pattern.empty()) const TextPattern pattern(options.format_pattern, "--format_pattern");
  if (options.needs_answer() && options.answer_column.empty())
    throw_error<UsageError>("--answer_column: expected the name of a column");
  if (options.max_completion_length < 1)
    throw_error<UsageError>("--max_completion_length: expected at least 1, got {}", options.max_completion_length);
  if (options.has(RewardFunction::kOverlong) &&
      (options.overlong_cache < 1 || options.overlong_cache > options.max_completion_length))
    throw_error<UsageError>("--overlong_cache: expected 1 to {}, which is --max_completion_length, got {}",
                            options.max_completion_length, options.overlong_cache);
  if (options.repetition_ngram < 1)
    throw_error<UsageError>("--repetition_ngram: expected at least 1, got {}", options.repetition_ngram);
  if (!std::isfinite(options.truncated_reward))
    throw_error<UsageError>("--truncated_reward: expected a finite number, got {}", options.truncated_reward);
  validate_program(options.program, options.has(RewardFunction::kProgram));
}

std::vector<std::string> split_command(const std::string& command, const std::string& option) {
  std::vector<std::string> words;
  bool is_word = false;  // also an empty one, between quotes
  char quote = 0;
  for (size_t i = 0; i < command.size(); ++i) {
    const char c = command[i];
    if (quote == 0 && (c == ' ' || c == '\t' || c == '\n')) {
      is_word = false;
      continue;
    }
    if (!is_word) words.emplace_back();
    is_word = true;
    const bool escapes = c == '\\' && quote != '\'';
    if (escapes && i + 1 == command.size()) throw_error<UsageError>("{}: nothing follows the last backslash", option);
    if (escapes) {
      const char next = command[++i];
      // within double quotes a backslash only escapes these
      if (quote == '"' && next != '"' && next != '\\') words.back() += c;
      words.back() += next;
    } else if (quote != 0 ? c == quote : c == '\'' || c == '"') {
      quote = quote != 0 ? 0 : c;
    } else {
      words.back() += c;
    }
  }
  if (quote != 0) throw_error<UsageError>("{}: the quote {} is not closed", option, quote);
  if (words.empty() || words[0].empty()) throw_error<UsageError>("{}: expected a command", option);
  return words;
}

}  // namespace plumb
