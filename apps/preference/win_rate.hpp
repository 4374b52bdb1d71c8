// Whether training made answers better, as a reward model sees it: the model's greedy answers to held-out prompts,
// before and after.
#pragma once

#include "apps/options/train_options.hpp"
#include "apps/preference/completions.hpp"
#include "apps/preference/row_prompts.hpp"
#include "io/run/notes.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// The prompts of the first num_win_rate_prompts rows of eval_data, and the answers of the model that training starts
/// from.
class WinRate {
 public:
  /// Collective, before training. Throws AgreedError. Without eval_data or a reward model there is nothing to compare.
  WinRate(const Communicator& comm, const TrainOptions& options);

  /// Collective, after the model has been exported: a win is a higher reward after training than before, equal texts or
  /// rewards are half of one.
  void add_to(StageNotes& notes) const;

 private:
  const Communicator& comm_;
  const TrainOptions& options_;
  RowPrompts asked_;
  Answers before_;
};

}  // namespace plumb
