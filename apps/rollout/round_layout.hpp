// How the completions of a round are divided into steps and micro-batches, as pure functions: a round is the
// completions that are made at once, a window the part of them that one step trains on. Every window holds consecutive
// completions, and micro-batch number m of it those from m * rows_per_micro_batch on, so that what a micro-batch holds
// does not depend on the number of ranks.
// Source: TRL's RepeatSampler and steps_per_generation (trainer/grpo_trainer.py), for one process and without its
// shuffle inside a round.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace plumb {

/// Numbers [begin, end) of completions within their round.
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const RowRange&) const = default;
};

struct RoundLayout {
  int64_t rows_per_micro_batch = 1;    // at most
  int64_t micro_batches_per_step = 1;  // of all ranks
  int64_t windows_per_round = 1;
  int64_t num_iterations = 1;   // passes over a round
  int64_t num_generations = 1;  // completions per prompt
  int64_t rows_per_round = 1;

  int64_t prompts_per_round() const { return rows_per_round / num_generations; }
  int64_t rows_per_step() const { return rows_per_round / windows_per_round; }
  int64_t steps_per_round() const { return windows_per_round * num_iterations; }
  /// Later steps train on the completions of a policy that has changed since.
  bool has_old_policy() const { return steps_per_round() > 1; }
  /// Rounds count from 1, as steps do.
  int64_t round_of(int64_t step) const { return (step - 1) / steps_per_round() + 1; }
  bool begins_round(int64_t step) const { return (step - 1) % steps_per_round() == 0; }
  int64_t window_of(int64_t step) const { return (step - 1) % steps_per_round() % windows_per_round; }
  RowRange rows_of_window(int64_t window) const { return {window * rows_per_step(), (window + 1) * rows_per_step()}; }
  /// Empty past the window's last completion.
  RowRange rows_of(int64_t window, int64_t micro_batch) const;
};

/// The numbers from which the size of a round follows.
struct RoundSize {
  int64_t rows_per_micro_batch;
  int64_t micro_batches_per_step;  // of all ranks
  int64_t windows_per_round;
};
/// The layout of rounds whose windows fill their micro-batches. Throws UsageError unless they hold whole groups.
RoundLayout make_round_layout(const RoundSize& size, int64_t num_iterations, int64_t num_generations);
/// The layout of recorded rounds of this size, which may leave micro-batches short or empty. Throws UsageError if they
/// are no whole groups or windows, or too large for a step.
RoundLayout recorded_round_layout(const RoundSize& size, int64_t num_iterations, int64_t num_generations,
                                  int64_t rows_per_round);

/// Which prompts a round has: those at its place in the permutation of its epoch, or in file order. The last prompts of
/// an epoch that fill no round are left out.
struct PromptOrder {
  uint64_t seed = 0;
  bool is_shuffled = true;
  int64_t num_prompts = 0;
  int64_t prompts_per_round = 1;

  int64_t rounds_per_epoch() const { return num_prompts / prompts_per_round; }
  /// round: from 1.
  std::vector<int64_t> prompts_of(int64_t round) const;
};

}  // namespace plumb
