// Rounds of rollouts in files: those that --rollouts names, and those that a run writes for itself under
// output_dir/rollouts, from which it continues inside a round.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/rollout/round.hpp"
#include "io/records/rollouts.hpp"

namespace plumb {

/// The contents of the files of --rollouts.
struct RecordedSize {
  int64_t num_rounds = 0;
  int64_t rows_per_round = 0;
  int64_t num_rewards = 0;
  int64_t max_tokens = 0;  // of a prompt with its completion
};

/// Reads files one after the other, as one file.
class RecordedRounds {
 public:
  /// num_generations: completions of a prompt. Throws as next().
  RecordedRounds(std::vector<std::string> files, int64_t vocab_size, int64_t num_generations);

  /// The next round; empty after the last one. Throws DataError with path and line for a round that does not follow the
  /// one before, that has another size, or whose groups are not those of one prompt each.
  std::vector<Rollout> next();

 private:
  void check_groups(const std::vector<Rollout>& rollouts) const;

  std::vector<std::string> files_;
  int64_t vocab_size_, num_generations_;
  size_t next_file_ = 0;
  std::unique_ptr<RolloutReader> reader_;
  int64_t last_round_ = 0;
  size_t round_size_ = 0, num_rewards_ = 0;  // of the first round
};

/// Reads all files once. Throws as RecordedRounds.
RecordedSize measure_rollouts(const std::vector<std::string>& files, int64_t vocab_size, int64_t num_generations);

/// "output_dir/rollouts/round-000012.jsonl".
std::string round_path(const std::string& output_dir, int64_t round);
/// Rank 0 only: the file of the round, complete or not at all.
void write_round(const std::string& output_dir, const Round& round);
/// The rollouts of that file. Throws DataError where it is missing, damaged, or of another size.
std::vector<Rollout> read_round(const std::string& output_dir, int64_t round, int64_t vocab_size, int64_t num_rows);

}  // namespace plumb
