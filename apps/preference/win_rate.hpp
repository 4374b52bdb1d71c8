// The win rate of DPO: how often the reward model prefers the greedy answer of the trained model to that of the model
// before training, on held-out prompts.
#pragma once

#include "apps/options/train_options.hpp"
#include "apps/preference/completions.hpp"
#include "apps/preference/row_prompts.hpp"
#include "io/run/notes.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// The prompts of the first num_win_rate_prompts rows of eval_data, and the answers before training.
class WinRate {
 public:
  /// Collective, before training. Without eval_data or a reward model, nothing is compared. Throws AgreedError. The
  /// options must outlive this object.
  WinRate(const Communicator& comm, const TrainOptions& options);

  /// Collective, after the model was exported: adds the win rate to the notes. A higher reward after training than
  /// before is a win; equal texts or rewards are half a win.
  void add_to(StageNotes& notes) const;

 private:
  const Communicator& comm_;
  const TrainOptions& options_;
  RowPrompts prompts_;
  Answers before_;
};

}  // namespace plumb
