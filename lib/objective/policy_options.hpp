// Options of optimizing a policy against rewards, with TRL's names and defaults (GRPOTrainer and RLOOTrainer 1.16).
// This file is independent of tensors and batches.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "lib/base/named.hpp"

namespace plumb {

/// The loss of a completion. kRloo is that of the stage rloo; the others are choices of grpo.
enum class PolicyLoss { kGrpo, kBnpo, kDrGrpo, kDapo, kLuspo, kCispo, kSapo, kVespo, kRloo };

/// TRL's names of --loss_type.
template <>
inline constexpr auto kNames<PolicyLoss> = std::to_array<Named<PolicyLoss>>({{"grpo", PolicyLoss::kGrpo},
                                                                             {"bnpo", PolicyLoss::kBnpo},
                                                                             {"dr_grpo", PolicyLoss::kDrGrpo},
                                                                             {"dapo", PolicyLoss::kDapo},
                                                                             {"luspo", PolicyLoss::kLuspo},
                                                                             {"cispo", PolicyLoss::kCispo},
                                                                             {"sapo", PolicyLoss::kSapo},
                                                                             {"vespo", PolicyLoss::kVespo}});

/// Whose ratio of probabilities weighs a token: its own, or the geometric mean over its completion (GSPO,
/// arXiv:2507.18071).
enum class ImportanceLevel { kToken, kSequence };

template <>
inline constexpr auto kNames<ImportanceLevel> = std::to_array<Named<ImportanceLevel>>(
    {{"token", ImportanceLevel::kToken}, {"sequence", ImportanceLevel::kSequence}});

/// The standard deviation that advantages are divided by: of the group, of the round, or none.
enum class RewardScale { kGroup, kBatch, kNone };

template <>
inline constexpr auto kNames<RewardScale> = std::to_array<Named<RewardScale>>({{"group", RewardScale::kGroup},
                                                                               {"batch", RewardScale::kBatch},
                                                                               {"none", RewardScale::kNone}});

/// How the rewards of several functions become one number: a weighted sum, or a weighted sum of each one's normalized
/// values (GDPO, arXiv:2601.05242).
enum class RewardAggregation { kSumThenNormalize, kNormalizeThenSum };

template <>
inline constexpr auto kNames<RewardAggregation> =
    std::to_array<Named<RewardAggregation>>({{"sum_then_normalize", RewardAggregation::kSumThenNormalize},
                                             {"normalize_then_sum", RewardAggregation::kNormalizeThenSum}});

/// Options of the loss. rloo has only epsilon, epsilon_high and temperature; PolicyOptions::rloo() sets the others.
struct PolicyOptions {
  PolicyLoss loss = PolicyLoss::kDapo;
  ImportanceLevel importance_level = ImportanceLevel::kToken;
  double epsilon = 0.2;
  std::optional<double> epsilon_high;  // none: epsilon
  std::optional<double> delta;         // upper bound of the unclipped ratio; none: no bound
  double beta = 0;                     // weight of the KL divergence from the reference in the loss
  bool uses_bias_correction_kl = true;
  double temperature = 1;               // divides logits
  int64_t max_completion_length = 512;  // the divisor of dr_grpo
  double sapo_temperature_pos = 1, sapo_temperature_neg = 1.05;
  double vespo_k_pos = 2, vespo_lambda_pos = 3, vespo_k_neg = 3, vespo_lambda_neg = 2;
  std::optional<double> off_policy_mask_threshold;
  double top_entropy_quantile = 1;  // the share of tokens, those of highest entropy, that have a policy term
  double entropy_coef = 0;          // of the entropy bonus; its first value if it adapts
  bool uses_adaptive_entropy = false;
  double entropy_coef_min = 0, entropy_coef_max = 1, entropy_coef_delta = 0.005, entropy_target = 0.2;

  static PolicyOptions rloo() {
    PolicyOptions options;
    options.loss = PolicyLoss::kRloo;
    options.importance_level = ImportanceLevel::kSequence;
    return options;
  }
  double clip_low() const { return 1 - epsilon; }
  double clip_high() const { return 1 + epsilon_high.value_or(epsilon); }
  bool needs_reference() const { return beta != 0; }
  bool has_entropy_bonus() const { return entropy_coef != 0 || uses_adaptive_entropy; }
  /// Only tokens of high entropy have a policy term, which needs the entropies of all tokens of the step.
  bool has_entropy_mask() const { return top_entropy_quantile < 1; }
};

/// Throws UsageError for values outside their range and for combinations without a meaning.
void validate(const PolicyOptions& options);

/// State of use_adaptive_entropy, part of a checkpoint.
struct EntropyControl {
  double coef = 0;
  double last_entropy = std::numeric_limits<double>::infinity();
  bool operator==(const EntropyControl&) const = default;
};

/// The state before the first step.
EntropyControl first_entropy_control(const PolicyOptions& options);
/// The coefficient of the entropy bonus in the next step.
double applied_entropy_coef(const PolicyOptions& options, const EntropyControl& control);
/// The state after a step whose tokens had this mean entropy. Unchanged without use_adaptive_entropy.
EntropyControl next_entropy_control(const PolicyOptions& options, const EntropyControl& control, double entropy);

/// Options of the advantages of grpo.
struct AdvantageOptions {
  int64_t num_generations = 8;
  std::vector<double> reward_weights;  // one per reward function; empty: 1 each
  RewardScale scale_rewards = RewardScale::kGroup;
  RewardAggregation aggregation = RewardAggregation::kSumThenNormalize;
};

/// Options of the advantages of rloo.
struct RlooAdvantageOptions {
  int64_t num_generations = 2;
  std::vector<double> reward_weights;
  std::optional<std::pair<double, double>> reward_clip_range;
  double beta = 0.05;  // weight of the KL divergence in the reward
  bool normalizes_advantages = false;
};

/// num_functions: of the run. Throws UsageError.
void validate(const AdvantageOptions& options, size_t num_functions);
void validate(const RlooAdvantageOptions& options, size_t num_functions);

}  // namespace plumb
