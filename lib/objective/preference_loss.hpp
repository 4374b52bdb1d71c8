// The losses of direct preference optimization as functions of log-probabilities, with their derivatives, in float64.
// Names, formulas and constraints are TRL's (DPOTrainer 1.16), with two differences: label_smoothing also makes
// `sigmoid` conservative (Mitchell 2023; TRL ignores it there), and exponentials that overflow in TRL are capped at
// exp(80), where their derivative becomes 0. This file is independent of tensors and batches.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/named.hpp"

namespace plumb {

enum class PreferenceLoss {
  kSigmoid,
  kHinge,
  kIpo,
  kExoPair,
  kNcaPair,
  kRobust,
  kBcoPair,
  kSppoHard,
  kAot,
  kAotUnpaired,
  kApoZero,
  kApoDown,
  kDiscopop,
  kSft,
  kSigmoidNorm,
};

/// The f-divergence that penalizes the distance of the policy from the reference (arXiv:2309.16240).
enum class FDivergence { kReverseKl, kForwardKl, kJsDivergence, kAlphaDivergence };

/// TRL's names of --loss_type.
template <>
inline constexpr auto kNames<PreferenceLoss> =
    std::to_array<Named<PreferenceLoss>>({{"sigmoid", PreferenceLoss::kSigmoid},
                                          {"hinge", PreferenceLoss::kHinge},
                                          {"ipo", PreferenceLoss::kIpo},
                                          {"exo_pair", PreferenceLoss::kExoPair},
                                          {"nca_pair", PreferenceLoss::kNcaPair},
                                          {"robust", PreferenceLoss::kRobust},
                                          {"bco_pair", PreferenceLoss::kBcoPair},
                                          {"sppo_hard", PreferenceLoss::kSppoHard},
                                          {"aot", PreferenceLoss::kAot},
                                          {"aot_unpaired", PreferenceLoss::kAotUnpaired},
                                          {"apo_zero", PreferenceLoss::kApoZero},
                                          {"apo_down", PreferenceLoss::kApoDown},
                                          {"discopop", PreferenceLoss::kDiscopop},
                                          {"sft", PreferenceLoss::kSft},
                                          {"sigmoid_norm", PreferenceLoss::kSigmoidNorm}});

/// TRL's names of --f_divergence_type.
template <>
inline constexpr auto kNames<FDivergence> =
    std::to_array<Named<FDivergence>>({{"reverse_kl", FDivergence::kReverseKl},
                                       {"forward_kl", FDivergence::kForwardKl},
                                       {"js_divergence", FDivergence::kJsDivergence},
                                       {"alpha_divergence", FDivergence::kAlphaDivergence}});

struct WeightedLoss {
  PreferenceLoss loss = PreferenceLoss::kSigmoid;
  double weight = 1;
};

/// Pairs losses with weights; without weights each is 1. Throws UsageError if the numbers of losses and weights differ.
std::vector<WeightedLoss> weighted_losses(std::span<const PreferenceLoss> losses, std::span<const double> weights);

/// TRL's names and defaults.
struct DpoOptions {
  double beta = 0.1;
  std::vector<WeightedLoss> losses = {WeightedLoss{}};
  double label_smoothing = 0;
  FDivergence f_divergence = FDivergence::kReverseKl;
  double f_alpha_divergence_coef = 0.5;
  std::optional<double> ld_alpha;  // weight of the longer answer's tokens past the length of the shorter one
  double discopop_tau = 0.05;
  bool uses_weighting = false;  // WPO: pairs that are likely under the policy weigh more

  /// Whether a term of this kind is among the losses.
  bool has(PreferenceLoss loss) const;
  /// Total weight of all terms of this kind.
  double weight_of(PreferenceLoss loss) const;
  /// aot and aot_unpaired compare the sorted values of all pairs of the global batch.
  bool needs_all_pairs() const { return has(PreferenceLoss::kAot) || has(PreferenceLoss::kAotUnpaired); }
};

/// Throws UsageError for a combination that TRL refuses or that has no finite loss.
void validate(const DpoOptions& options);

/// Log-probabilities of the trained tokens of the two answers, as ld_alpha weighs them.
struct PairLogps {
  double chosen = 0;
  double rejected = 0;
  double reference_chosen = 0;
  double reference_rejected = 0;
  int64_t chosen_tokens = 0;
  int64_t rejected_tokens = 0;
  double weight = 1;  // of WPO; a constant in the derivatives
};

/// Weighted sum of the losses, and its derivatives with respect to the policy's two log-probabilities.
struct PairLoss {
  double loss = 0;
  double dchosen = 0;
  double drejected = 0;
};

/// The loss of one pair without sft terms, which are losses of tokens, and without terms that need all pairs.
PairLoss pair_loss(const DpoOptions& options, const PairLogps& pair);

/// The losses of all pairs of a global batch, for any losses. The sorts of aot are stable, with ties in order of index.
/// The loss of two matched values belongs to the pair of the chosen one, and each derivative to the pair of its value.
/// TRL sorts only within a device's batch.
std::vector<PairLoss> pair_losses(const DpoOptions& options, std::span<const PairLogps> pairs);

}  // namespace plumb
