// Rewards that are functions of a completion's text and tokens and of its row: pure, in float64, the same bits
// anywhere. Source: TRL 1.16 trl/rewards; GSM8K's answers; DAPO eq. 13, arXiv:2503.14476; arXiv:2502.03373, appendix C.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apps/options/reward_options.hpp"

namespace plumb {

/// All that a reward may depend on.
struct RewardInput {
  std::string_view completion;              // without special tokens
  std::span<const int32_t> completion_ids;  // with the token that ended it
  bool is_truncated = false;                // it has no end
  const nlohmann::ordered_json& row;        // the columns of the prompt's row
};

class TextPattern;

/// The reward functions of a run but `program`, with their patterns compiled.
class RewardFunctions {
 public:
  /// options: validated.
  explicit RewardFunctions(const RewardOptions& options);
  ~RewardFunctions();

  /// The names for metrics, in the order of --reward_funcs, `program` included.
  std::vector<std::string> names() const;

  /// One reward per function, in the order of --reward_funcs; NaN: it does not apply to this completion, or it is
  /// `program`. where: begins messages. Throws DataError for a row without the answer that a function reads.
  std::vector<double> operator()(const RewardInput& input, std::string_view where) const;

  /// Throws DataError if a function needs a column that the row does not have, or has as something other than text or
  /// a number.
  void check_row(const nlohmann::ordered_json& row, std::string_view where) const;

 private:
  double reward(RewardFunction function, const RewardInput& input, std::string_view where) const;

  RewardOptions options_;
  std::unique_ptr<TextPattern> answer_pattern_, regex_, format_pattern_;
};

}  // namespace plumb
