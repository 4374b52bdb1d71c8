#include "apps/rollout/recorded_rounds.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"

namespace plumb {

RecordedRounds::RecordedRounds(std::vector<std::string> files, int64_t vocab_size, int64_t num_generations)
    : files_(std::move(files)), vocab_size_(vocab_size), num_generations_(num_generations) {}

std::vector<Rollout> RecordedRounds::next() {
  std::vector<Rollout> rollouts;
  while (rollouts.empty()) {
    if (!reader_) {
      if (next_file_ == files_.size()) return {};
      reader_ = std::make_unique<RolloutReader>(files_[next_file_++], vocab_size_);
    }
    rollouts = reader_->next_round();
    if (rollouts.empty()) reader_.reset();
  }
  if (round_size_ == 0) {
    round_size_ = rollouts.size();
    num_rewards_ = rollouts[0].rewards.size();
  } else if (rollouts[0].round != last_round_ + 1) {
    throw_error<DataError>("{}: expected round {} after round {}, got round {}", reader_->where(0), last_round_ + 1,
                           last_round_, rollouts[0].round);
  } else if (rollouts.size() != round_size_ || rollouts[0].rewards.size() != num_rewards_) {
    throw_error<DataError>("{}: expected {} completions with {} rewards in every round, got {} with {}",
                           reader_->where(0), round_size_, num_rewards_, rollouts.size(), rollouts[0].rewards.size());
  }
  last_round_ = rollouts[0].round;
  check_groups(rollouts);
  return rollouts;
}

void RecordedRounds::check_groups(const std::vector<Rollout>& rollouts) const {
  if (std::ssize(rollouts) % num_generations_ != 0)
    throw_error<DataError>("{}: expected a multiple of --num_generations {} completions in a round, got {}",
                           reader_->where(0), num_generations_, rollouts.size());
  for (size_t i = 0; i < rollouts.size(); ++i) {
    const Rollout& first = rollouts[i - i % num_generations_];
    if (rollouts[i].row != first.row || rollouts[i].prompt_ids != first.prompt_ids)
      throw_error<DataError>(
          "{}: expected the {} completions of a prompt (--num_generations) one after the other, got row {} after row "
          "{}, or another prompt",
          reader_->where(i), num_generations_, rollouts[i].row, first.row);
  }
}

RecordedSize measure_rollouts(const std::vector<std::string>& files, int64_t vocab_size, int64_t num_generations) {
  RecordedRounds rounds(files, vocab_size, num_generations);
  RecordedSize size;
  for (std::vector<Rollout> rollouts = rounds.next(); !rollouts.empty(); rollouts = rounds.next()) {
    ++size.num_rounds;
    size.rows_per_round = std::ssize(rollouts);
    size.num_rewards = std::ssize(rollouts[0].rewards);
    for (const Rollout& rollout : rollouts)
      size.max_tokens =
          std::max<int64_t>(size.max_tokens, std::ssize(rollout.prompt_ids) + std::ssize(rollout.completion_ids));
  }
  return size;
}

std::string round_path(const std::string& output_dir, int64_t round) {
  return fmt::format("{}/rollouts/round-{:06}.jsonl", output_dir, round);
}

void write_round(const std::string& output_dir, const Round& round) {
  std::error_code error;
  std::filesystem::create_directories(output_dir + "/rollouts", error);
  if (error) throw_error<InputOutputError>("{}/rollouts: cannot be created: {}", output_dir, error.message());
  write_rollouts(round_path(output_dir, round.number), round.rollouts);
}

std::vector<Rollout> read_round(const std::string& output_dir, int64_t round, int64_t vocab_size, int64_t num_rows) {
  const std::string path = round_path(output_dir, round);
  RolloutReader reader(path, vocab_size);
  std::vector<Rollout> rollouts = reader.next_round();
  if (std::ssize(rollouts) != num_rows || rollouts[0].round != round)
    throw_error<DataError>("{}: expected the {} completions of round {}, got {} of round {}", path, num_rows, round,
                           rollouts.size(), rollouts.empty() ? 0 : rollouts[0].round);
  return rollouts;
}

}  // namespace plumb
