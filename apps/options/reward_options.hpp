// Options of rewards that are computed from the text of a completion. Reward models are not among them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/named.hpp"

namespace plumb {

enum class RewardFunction {
  kMatch,
  kNumber,
  kRegex,
  kFormat,
  kThink,
  kTags,
  kOverlong,
  kCosine,
  kRepetition,
  kTruncated,
  kLength,
  kCount,
  kShare,
  kProgram,
};

/// The names of --reward_funcs, those of TRL where the meaning is the same.
template <>
inline constexpr auto kNames<RewardFunction> =
    std::to_array<Named<RewardFunction>>({{"match", RewardFunction::kMatch},
                                          {"number", RewardFunction::kNumber},
                                          {"regex", RewardFunction::kRegex},
                                          {"format", RewardFunction::kFormat},
                                          {"think", RewardFunction::kThink},
                                          {"think_format_reward", RewardFunction::kThink},
                                          {"tags", RewardFunction::kTags},
                                          {"overlong", RewardFunction::kOverlong},
                                          {"get_soft_overlong_punishment", RewardFunction::kOverlong},
                                          {"cosine", RewardFunction::kCosine},
                                          {"repetition", RewardFunction::kRepetition},
                                          {"get_repetition_penalty_reward", RewardFunction::kRepetition},
                                          {"truncated", RewardFunction::kTruncated},
                                          {"length", RewardFunction::kLength},
                                          {"count", RewardFunction::kCount},
                                          {"share", RewardFunction::kShare},
                                          {"program", RewardFunction::kProgram}});

/// Whether the reward says that a completion is right (1 or more) or not.
bool is_verdict(RewardFunction function);

/// After a failure of the reward program the completion has no reward, or the run stops.
enum class OnRewardError { kSkip, kStop };
template <>
inline constexpr auto kNames<OnRewardError> = std::to_array<Named<OnRewardError>>({{"skip", OnRewardError::kSkip},
                                                                                   {"stop", OnRewardError::kStop}});

struct RewardProgramOptions {
  std::string command;           // --reward_program; split at blanks, with quotes, and run without a shell
  std::string wrapper;           // --reward_wrapper: a command that runs the program, such as bwrap
  double timeout_seconds = 30;   // --reward_timeout: of one answer
  int64_t max_memory_mb = 4096;  // --reward_memory_mb: address space of one process; 0: no limit
  OnRewardError on_error = OnRewardError::kSkip;  // --on_reward_error
};

struct RewardOptions {
  std::vector<RewardFunction> functions;  // --reward_funcs
  std::string answer_column = "answer";   // --answer_column: what match, number and cosine compare with
  std::string answer_pattern;             // --answer_pattern: match compares its last match, or the first group of it
  bool ignores_case = false;              // --answer_ignore_case: of match
  bool needs_answer_mark = false;         // --answer_mark: number reads the number behind "####" only
  std::string regex;                      // --reward_pattern: of regex
  std::string format_pattern;             // --format_pattern: of format
  int64_t max_completion_length = 512;
  int64_t overlong_cache = 128;  // --overlong_cache: tokens before the limit where overlong begins
  int64_t repetition_ngram = 3;  // --repetition_ngram
  double truncated_reward = -1;  // --truncated_reward: of a completion that does not end
  std::string count_text;        // --count_text: of count and share
  RewardProgramOptions program;

  bool has(RewardFunction function) const;
  /// The functions that read the row's answer.
  bool needs_answer() const;
};

/// Throws UsageError, options with the names above: a function twice, a missing or needless option of a function,
/// values outside their range, a pattern that does not compile, a command that cannot be split.
void validate(const RewardOptions& options);

/// The words of a command: separated by blanks; quotes and backslashes as in a POSIX shell, without expansion. Throws
/// UsageError that begins with `option` for an open quote and for no word.
std::vector<std::string> split_command(const std::string& command, const std::string& option);

}  // namespace plumb
