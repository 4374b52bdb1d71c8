// The data of grpo and rloo: prompts that the model completes, or recorded rollouts; and the geometry of the run that
// follows from them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/train_options.hpp"
#include "apps/preference/row_prompts.hpp"
#include "apps/rollout/recorded_rounds.hpp"
#include "apps/rollout/round_layout.hpp"
#include "apps/train/step_loop.hpp"
#include "lib/model/model_config.hpp"
#include "partition/communicator.hpp"

namespace plumb {

struct PolicyData {
  RoundLayout layout;
  PromptOrder order;
  RunLength length{};
  std::vector<int32_t> end_ids;           // tokens that end a completion
  std::vector<std::string> reward_names;  // of models, then functions
  RowPrompts prompts;                     // none where rollouts are recorded
  RowPrompts eval_prompts;
  int64_t max_row_tokens = 0;                // of a prompt with its completion
  std::optional<std::string> template_name;  // that rendered the prompts, as exported_text() takes it
};

/// How many windows a round has. Throws UsageError if steps_per_generation or generation_batch_size is no multiple of a
/// step.
int64_t windows_per_round(const TrainOptions& options, int num_ranks);

/// Collective: reads prompts, or measures recorded rollouts. Throws AgreedError.
PolicyData open_policy_data(const Communicator& comm, const TrainOptions& options, const ModelConfig& config);

}  // namespace plumb
