// A reward from a program in any language: one JSON object per line to its standard input, one number per line from its
// standard output. The program runs without a shell, apart from plumb's session, descriptors and environment, with
// limits on memory and files, in a directory of its own; it is killed and started again when it fails. This keeps
// mistakes from harming the run. It is no protection from code that wants to escape: for that there is the wrapper.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "apps/options/reward_options.hpp"

namespace plumb {

/// The object that a program gets for one completion: id, prompt, completion, truncated, num_tokens, and the columns of
/// the row under "row". It answers with a number, null (the reward does not apply) or {"id": ..., "reward": ...};
/// without ids, answers are in the order of requests.
struct RewardRequest {
  std::string prompt;
  std::string completion;
  bool is_truncated = false;
  int64_t num_tokens = 0;
  nlohmann::ordered_json row;
};

struct ProgramRewards {
  std::vector<double> rewards;        // NaN: null, or no answer
  std::vector<std::string> failures;  // empty: answered
  int64_t num_failures() const;
};

class RewardProgram {
 public:
  /// Starts nothing yet. log_path: what the program writes to standard error is appended there.
  RewardProgram(const RewardProgramOptions& options, std::string log_path);
  ~RewardProgram();
  RewardProgram(const RewardProgram&) = delete;
  RewardProgram& operator=(const RewardProgram&) = delete;

  /// The rewards of these requests. Starts the program where it does not run, and again after each failure: no answer
  /// within the limit after the one before, an answer that is no number, or the end of the program. The oldest request
  /// without an answer is the one that failed; after more failures than a tenth, and three, all that are left. Throws
  /// UsageError if the program cannot be started, DataError if a request fails and on_error is kStop.
  ProgramRewards operator()(std::span<const RewardRequest> requests);

 private:
  class Process;
  RewardProgramOptions options_;
  std::string log_path_;
  std::unique_ptr<Process> process_;  // null: not running
};

}  // namespace plumb
