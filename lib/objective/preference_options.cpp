// Validation of the options of preference_loss.hpp.
#include <cmath>

#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"
#include "lib/objective/preference_loss.hpp"

namespace plumb {

namespace {

/// Only losses of the difference of both scores, in which the additive constant of the divergence cancels.
bool allows_f_divergence(PreferenceLoss loss) {
  switch (loss) {
    case PreferenceLoss::kSigmoid:
    case PreferenceLoss::kSigmoidNorm:
    case PreferenceLoss::kHinge:
    case PreferenceLoss::kIpo:
    case PreferenceLoss::kExoPair:
    case PreferenceLoss::kRobust:
    case PreferenceLoss::kDiscopop:
    case PreferenceLoss::kSft:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::vector<WeightedLoss> weighted_losses(std::span<const PreferenceLoss> losses, std::span<const double> weights) {
  std::vector<WeightedLoss> weighted;
  for (const PreferenceLoss loss : losses) weighted.push_back({loss, 1});
  if (weights.empty()) return weighted;
  if (weights.size() != losses.size())
    throw_error<UsageError>("--loss_weights: {} values for the {} losses of --loss_type; give one each, or none",
                            weights.size(), losses.size());
  for (size_t i = 0; i < weighted.size(); ++i) weighted[i].weight = weights[i];
  return weighted;
}

void validate(const DpoOptions& options) {
  if (!(options.beta > 0) || !std::isfinite(options.beta))
    throw_error<UsageError>("--beta: expected a number above 0, got {}", options.beta);
  if (options.losses.empty()) throw_error<UsageError>("--loss_type: expected at least one loss");
  for (const WeightedLoss& term : options.losses) {
    if (!std::isfinite(term.weight))
      throw_error<UsageError>("--loss_weights: expected finite numbers, got {}", term.weight);
    if (options.f_divergence != FDivergence::kReverseKl && !allows_f_divergence(term.loss))
      throw_error<UsageError>(
          "--f_divergence_type {} cannot be combined with --loss_type {}, only with sigmoid, sigmoid_norm, hinge, ipo, "
          "exo_pair, robust, discopop and sft; leave it at reverse_kl",
          name_of(options.f_divergence), name_of(term.loss));
  }
  const double smoothing = options.label_smoothing;
  if (!(smoothing >= 0 && smoothing < 1))
    throw_error<UsageError>("--label_smoothing: expected a number of at least 0 and below 1, got {}", smoothing);
  if (options.has(PreferenceLoss::kRobust) && smoothing >= 0.5)
    throw_error<UsageError>("--label_smoothing: expected a number below 0.5 with --loss_type robust, got {}",
                            smoothing);
  if (options.has(PreferenceLoss::kExoPair) && smoothing == 0)
    throw_error<UsageError>(
        "--label_smoothing: expected a number above 0 with --loss_type exo_pair; its paper uses 1e-3");
  if (options.ld_alpha && !(*options.ld_alpha >= 0 && *options.ld_alpha <= 1))
    throw_error<UsageError>("--ld_alpha: expected a number from 0 to 1, got {}", *options.ld_alpha);
  if (!std::isfinite(options.f_alpha_divergence_coef))
    throw_error<UsageError>("--f_alpha_divergence_coef: expected a finite number, got {}",
                            options.f_alpha_divergence_coef);
  if (!(options.discopop_tau > 0) || !std::isfinite(options.discopop_tau))
    throw_error<UsageError>("--discopop_tau: expected a number above 0, got {}", options.discopop_tau);
  if (options.uses_weighting && (options.needs_all_pairs() || options.has(PreferenceLoss::kSft)))
    throw_error<UsageError>(
        "--use_weighting cannot be combined with --loss_type aot, aot_unpaired or sft, which are not sums over pairs");
}

}  // namespace plumb
