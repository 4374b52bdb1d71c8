#include "lib/objective/policy_options.hpp"

#include <algorithm>
#include <cmath>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

void require_positive(std::string_view option, double value) {
  if (!(value > 0) || !std::isfinite(value))
    throw_error<UsageError>("{}: expected a number above 0, got {}", option, value);
}

void require_not_negative(std::string_view option, double value) {
  if (!(value >= 0) || !std::isfinite(value))
    throw_error<UsageError>("{}: expected a number of at least 0, got {}", option, value);
}

void validate_clip(const PolicyOptions& o) {
  if (!(o.epsilon >= 0 && o.epsilon < 1))
    throw_error<UsageError>("--epsilon: expected a number of at least 0 and below 1, got {}", o.epsilon);
  if (o.epsilon_high) require_not_negative("--epsilon_high", *o.epsilon_high);
  if (!o.delta) return;
  if (!(*o.delta > o.clip_high()) || !std::isfinite(*o.delta))
    throw_error<UsageError>("--delta: expected a number above 1 + epsilon_high, which is {}, got {}", o.clip_high(),
                            *o.delta);
  const bool clips = o.loss != PolicyLoss::kCispo && o.loss != PolicyLoss::kSapo && o.loss != PolicyLoss::kVespo;
  if (!clips)
    throw_error<UsageError>("--delta bounds a ratio that --loss_type {} does not clip; leave it away", name_of(o.loss));
}

void validate_entropy(const PolicyOptions& o) {
  if (!(o.top_entropy_quantile >= 0 && o.top_entropy_quantile <= 1))
    throw_error<UsageError>("--top_entropy_quantile: expected a number from 0 to 1, got {}", o.top_entropy_quantile);
  if (!std::isfinite(o.entropy_coef))
    throw_error<UsageError>("--entropy_coef: expected a finite number, got {}", o.entropy_coef);
  if (!o.uses_adaptive_entropy) return;
  if (!(o.entropy_coef_min <= o.entropy_coef_max) || !std::isfinite(o.entropy_coef_min) ||
      !std::isfinite(o.entropy_coef_max))
    throw_error<UsageError>("--entropy_coef_min {} must not exceed --entropy_coef_max {}", o.entropy_coef_min,
                            o.entropy_coef_max);
  require_positive("--entropy_coef_delta", o.entropy_coef_delta);
  require_not_negative("--entropy_target", o.entropy_target);
}

void validate_group(int64_t num_generations, const std::vector<double>& weights, size_t num_functions) {
  if (num_generations < 2)
    throw_error<UsageError>(
        "--num_generations: expected at least 2, since the advantage of a completion is relative to others of its "
        "prompt, got {}",
        num_generations);
  if (num_functions == 0) throw_error<UsageError>("expected a reward: give --reward_model or --reward_funcs");
  if (!weights.empty() && weights.size() != num_functions)
    throw_error<UsageError>(
        "--reward_weights: {} values for {} rewards (reward models first, then --reward_funcs); give one each, or none",
        weights.size(), num_functions);
  for (const double weight : weights)
    if (!std::isfinite(weight)) throw_error<UsageError>("--reward_weights: expected finite numbers, got {}", weight);
}

}  // namespace

void validate(const PolicyOptions& options) {
  validate_clip(options);
  require_not_negative("--beta", options.beta);
  require_positive("--temperature", options.temperature);
  if (options.max_completion_length < 1)
    throw_error<UsageError>("--max_completion_length: expected at least 1, got {}", options.max_completion_length);
  require_positive("--sapo_temperature_pos", options.sapo_temperature_pos);
  require_positive("--sapo_temperature_neg", options.sapo_temperature_neg);
  require_not_negative("--vespo_k_pos", options.vespo_k_pos);
  require_not_negative("--vespo_k_neg", options.vespo_k_neg);
  require_not_negative("--vespo_lambda_pos", options.vespo_lambda_pos);
  require_not_negative("--vespo_lambda_neg", options.vespo_lambda_neg);
  if (options.off_policy_mask_threshold)
    require_not_negative("--off_policy_mask_threshold", *options.off_policy_mask_threshold);
  validate_entropy(options);
}

EntropyControl first_entropy_control(const PolicyOptions& options) { return {.coef = options.entropy_coef}; }

double applied_entropy_coef(const PolicyOptions& options, const EntropyControl& control) {
  if (!options.uses_adaptive_entropy) return control.coef;
  return control.last_entropy <= options.entropy_target ? control.coef : 0.0;
}

EntropyControl next_entropy_control(const PolicyOptions& options, const EntropyControl& control, double entropy) {
  if (!options.uses_adaptive_entropy) return control;
  const double coef = entropy <= options.entropy_target
                          ? std::min(control.coef + options.entropy_coef_delta, options.entropy_coef_max)
                          : std::max(control.coef - options.entropy_coef_delta, options.entropy_coef_min);
  return {coef, entropy};
}

void validate(const AdvantageOptions& options, size_t num_functions) {
  validate_group(options.num_generations, options.reward_weights, num_functions);
}

void validate(const RlooAdvantageOptions& options, size_t num_functions) {
  validate_group(options.num_generations, options.reward_weights, num_functions);
  require_not_negative("--beta", options.beta);
  if (!options.reward_clip_range) return;
  const auto [least, most] = *options.reward_clip_range;
  if (!(least < most))
    throw_error<UsageError>("--reward_clip_range: expected two numbers, the smaller one first, got {} {}", least, most);
}

}  // namespace plumb
