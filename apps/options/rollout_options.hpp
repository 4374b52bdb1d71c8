// The options of grpo and rloo, the stages that train on completions of their own model: with TRL's names and defaults
// (GRPOConfig and RLOOConfig 1.16).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/option.hpp"
#include "apps/options/reward_options.hpp"
#include "apps/options/stage.hpp"
#include "lib/model/sampling.hpp"
#include "lib/objective/policy_options.hpp"

namespace plumb {

struct RolloutStageOptions {
  // Rounds.
  int64_t num_generations = 8;                   // completions per prompt; of rloo 2
  std::optional<int64_t> steps_per_generation;   // micro-batches per rank that a round fills; none: of one step
  std::optional<int64_t> generation_batch_size;  // completions of a round on all ranks
  int64_t num_iterations = 1;                    // passes over a round
  std::vector<std::string> rollouts;             // files whose completions and rewards are used
  std::optional<int64_t> num_generations_eval;   // completions per held-out prompt; none: num_generations
  // Sampling.
  int64_t max_completion_length = 512;
  double temperature = 1;
  double top_p = 1;
  int64_t top_k = 0;
  double min_p = 0;
  double repetition_penalty = 1;
  // Rewards.
  std::vector<std::string> reward_model;  // directories
  RewardOptions rewards;
  std::vector<double> reward_weights;  // of models, then functions; empty: 1 each
  bool mask_truncated_completions = false;
  RewardScale scale_rewards = RewardScale::kGroup;                                       // grpo
  RewardAggregation multi_objective_aggregation = RewardAggregation::kSumThenNormalize;  // grpo
  std::vector<double> reward_clip_range;                                                 // rloo: two numbers, or empty
  bool normalize_advantages = false;                                                     // rloo
  // The loss. Its beta, temperature and max_completion_length are those of the stage.
  double beta = 0;  // of rloo 0.05, in the reward
  PolicyOptions policy;
  // The reference model.
  bool sync_ref_model = false;
  double ref_model_mixup_alpha = 0.6;
  int64_t ref_model_sync_steps = 512;
  std::optional<double> max_kl;  // KL divergence from the reference above which the run stops

  SamplingOptions sampling() const;
  /// Reward models, then functions.
  size_t num_rewards() const { return reward_model.size() + rewards.functions.size(); }
};

/// TRL's defaults for the stage, which is grpo or rloo.
RolloutStageOptions default_rollout_options(Stage stage);

/// The options of both stages.
std::vector<BoundOption> bind_options(RolloutStageOptions& options);
/// The options of completions and their rewards, for `plumb evaluate`.
std::vector<BoundOption> bind_evaluation_options(RolloutStageOptions& options);

PolicyOptions policy_options(Stage stage, const RolloutStageOptions& options);
AdvantageOptions advantage_options(const RolloutStageOptions& options);
RlooAdvantageOptions rloo_advantage_options(const RolloutStageOptions& options);

/// Throws UsageError for values of bind_evaluation_options() that contradict each other.
void validate_evaluation(const RolloutStageOptions& options);
/// Throws UsageError for values that contradict each other. trains_adapter: beside a frozen base.
void validate(Stage stage, const RolloutStageOptions& options, bool trains_adapter);

}  // namespace plumb
