// Completions of prompts by the model that is trained, and their rewards. Neither depends on the number of ranks:
// random numbers follow from seed, round and row, and rewards are computed in fixed groups or one by one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "apps/models/reward_model.hpp"
#include "apps/models/shared_decoder.hpp"
#include "apps/models/trained_model.hpp"
#include "apps/options/options.hpp"
#include "apps/options/rollout_options.hpp"
#include "apps/preference/completions.hpp"
#include "apps/preference/row_prompts.hpp"
#include "apps/rewards/reward_program.hpp"
#include "apps/rewards/rewards.hpp"
#include "io/records/rollouts.hpp"

namespace plumb {

/// The name of each reward, of models first, then functions.
std::vector<std::string> reward_names(const RolloutStageOptions& options);
/// Throws DataError for a row without the columns that a reward reads.
void check_rows(const RolloutStageOptions& options, const RowPrompts& prompts);

class RolloutMaker {
 public:
  /// All references must outlive the RolloutMaker.
  struct Input {
    const Communicator& comm;
    const RolloutStageOptions& options;
    const DataOptions& data;
    const ModelConfig& config;  // of the model that completes
    Precision dtype;
    TokenizerSource tokenizer;
    std::vector<int32_t> end_ids;  // tokens that end a completion
    std::string program_log;       // file for what a reward program writes to standard error
  };
  /// Collective: loads the reward models. Throws AgreedError.
  explicit RolloutMaker(const Input& input);

  /// Collective: completions are by this model as it is now.
  void use(const TrainedModel& model) { decoder_.copy(model); }
  /// Collective: completions are by this model. Throws AgreedError.
  void use(const ModelSource& model) { decoder_.read(model); }

  /// Collective: num_generations completions of each of these prompts, those of a prompt one after the other, without
  /// rewards. round: of which they are.
  std::vector<Rollout> generate(const RowPrompts& prompts, std::span<const int64_t> chosen, int64_t num_generations,
                                uint64_t seed, int64_t round);

  /// Collective: sets the rewards of generate()'s rollouts of the same prompts, of models first, then functions.
  void score(const RowPrompts& prompts, std::span<const int64_t> chosen, std::vector<Rollout>& rollouts);

 private:
  void score_by_models(const RowPrompts& prompts, std::span<const int64_t> chosen, std::vector<Rollout>& rollouts);
  void score_by_functions(const RowPrompts& prompts, std::span<const int64_t> chosen, std::vector<Rollout>& rollouts);

  const Input in_;
  std::optional<Tokenizer> tokenizer_;
  SharedDecoder decoder_;
  std::vector<std::unique_ptr<RewardModel>> reward_models_;
  std::vector<AnswerEncoder> encoders_;  // one per reward model, once prompts are known
  std::optional<RewardFunctions> functions_;
  std::optional<RewardProgram> program_;
};

}  // namespace plumb
