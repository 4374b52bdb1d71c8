// Rollouts as JSON Lines, one completion a line: what --rollouts reads and every run of grpo and rloo writes under
// rollouts/, so that a run can be replayed, compared and continued. Keys: round, row, prompt_ids, completion_ids,
// rewards (null: the function does not apply); where known also text, truncated, old_logp and reference_logp (sums over
// the completion), and old_logps and reference_logps (of each of its tokens).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "io/records/record_file.hpp"

namespace plumb {

struct Rollout {
  int64_t round = 0;
  int64_t row = 0;  // of the prompt, among the rows of all files
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> completion_ids;  // with the token that ended it
  std::vector<double> rewards;          // NaN: null
  std::string text = {};                // of the completion; "" where unknown
  std::optional<bool> is_truncated = {};
  std::optional<double> old_logp = {}, reference_logp = {};
  /// One per token of the completion, where a run needs them to continue inside the round.
  std::vector<float> old_logps = {}, reference_logps = {};
};

nlohmann::ordered_json to_json(const Rollout& rollout);

/// Throws DataError beginning with `where` for a missing, unknown or mistyped key, an empty prompt or completion, a
/// token id outside [0, vocab_size), or a number that is not finite.
Rollout parse_rollout(const nlohmann::ordered_json& object, int64_t vocab_size, std::string_view where);

/// Reads rollouts in the order of the file, which is that of the run: rounds from the lowest one up, without a gap, and
/// with as many completions and rewards in each.
class RolloutReader {
 public:
  /// Throws DataError for a file without lines.
  RolloutReader(const std::string& path, int64_t vocab_size);

  /// The completions of the next round; empty after the last one. Throws DataError with path and line.
  std::vector<Rollout> next_round();

  int64_t num_rollouts() const { return reader_.index().num_records; }
  /// "rollouts.jsonl:12: row 11", of the i-th completion of the round returned last.
  std::string where(size_t i) const;

 private:
  struct Read {
    Rollout rollout;
    std::string where;
  };
  std::optional<Read> read();

  RecordReader reader_;
  int64_t vocab_size_;
  std::optional<Read> next_;
  std::vector<std::string> where_;
  std::optional<size_t> round_size_, num_rewards_;
};

/// Writes one file of rollouts, complete or not at all. Throws InputOutputError.
void write_rollouts(const std::string& path, const std::vector<Rollout>& rollouts);

}  // namespace plumb
