// A round of rollouts: the completions that a policy made of some prompts, their rewards and advantages, and where the
// policy changes before all of them are used, their log-probabilities. The same on every rank, so that what follows
// from it needs no exchange.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "apps/options/train_options.hpp"
#include "apps/rollout/round_layout.hpp"
#include "io/records/rollouts.hpp"
#include "lib/model/batch.hpp"
#include "lib/objective/metric.hpp"

namespace plumb {

struct Round {
  int64_t number = 0;               // from 1
  std::vector<Rollout> rollouts;    // those of a prompt one after the other
  std::vector<uint8_t> is_trained;  // 0: the loss leaves the completion out, because it is truncated
  std::vector<double> advantages;   // of each completion

  int64_t num_rows() const { return std::ssize(rollouts); }
  /// The completion's tokens, if it is trained.
  int64_t trained_tokens(int64_t row) const;
  int64_t num_trained_tokens() const;
  /// Prompts, each with every completion, and completions.
  int64_t num_tokens() const;
};

/// Marks which completions have no end, and which are trained. end_ids: tokens that end a completion.
void mark_truncated(Round& round, std::span<const int32_t> end_ids, bool masks_truncated);

/// How completions become documents.
struct DocumentForm {
  bool shares_prompts = false;     // one of the same prompt as the one before it is stored without the prompt
  bool skips_zero_signal = false;  // completions are left out whose policy term has no gradient
  bool keeps_untrained = false;    // but not those with an advantage, which have a loss (rloo)
};
/// Whether a completion is no document, because its advantage is 0 or it is not trained.
bool is_left_out(const Round& round, int64_t row, const DocumentForm& form);
/// The completions as documents; without any, the empty micro-batch. number: within the step. Log-probabilities are
/// those of the rollouts, where they have any.
MicroBatch micro_batch_of(const Round& round, RowRange rows, int64_t number, const DocumentForm& form);

/// Sets the advantages and returns the round's metrics but those that are not numbers. reward_names: one per reward.
std::vector<Metric> finish_round(const TrainOptions& options, std::span<const std::string> reward_names, Round& round);

/// The metrics of rewards and lengths of held-out completions, which have no advantages. Those that are not numbers are
/// left out.
std::vector<Metric> describe_round(std::span<const double> reward_weights, std::span<const std::string> reward_names,
                                   const Round& round);

/// The chance that at least one of k completions of a prompt passes, which is that its reward of this number is at
/// least 1: the mean over prompts of 1 - C(n - c, k) / C(n, k), if c of n completions pass. Prompts of which no
/// completion has that reward are left out; NaN if that leaves none. Source: the unbiased estimator of
/// arXiv:2107.03374.
double pass_at(int64_t k, const Round& round, int64_t num_generations, size_t reward);

/// For each completion, the sum over its trained tokens of the log-probability under the old policy minus that under
/// the reference, which all rollouts have.
std::vector<double> divergences(const Round& round);

}  // namespace plumb
