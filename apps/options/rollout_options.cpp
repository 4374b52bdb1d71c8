#include "apps/options/rollout_options.hpp"

#include <algorithm>

#include "apps/options/options.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

using G = OptionGroup;
constexpr StageSet kBoth = kRolloutStages;
constexpr StageSet kGrpoOnly = {.grpo = true};
constexpr StageSet kRlooOnly = {.rloo = true};

std::vector<BoundOption> round_options(RolloutStageOptions& o) {
  return {
      declare("num_generations", G::kSampling, o.num_generations, "completions per prompt",
              {.range = between(2, 1024), .stages = kBoth}),
      declare("steps_per_generation", G::kSchedule, o.steps_per_generation,
              "micro-batches per rank that the completions of a round fill; by default gradient_accumulation_steps, so "
              "that every step has a round of its own",
              {.range = between(1, 1e6), .stages = kBoth}),
      declare("generation_batch_size", G::kSchedule, o.generation_batch_size,
              "completions of a round on all ranks, instead of steps_per_generation",
              {.range = between(1, 1e9), .stages = kBoth}),
      declare("num_iterations", G::kSchedule, o.num_iterations, "passes over the completions of a round",
              {.range = between(1, 1e6), .stages = kBoth}),
      declare("rollouts", G::kData, o.rollouts,
              "files of recorded rollouts, whose completions and rewards replace generation and scoring; every run "
              "writes its own to output_dir/rollouts",
              {.on_resume = OnResume::kNotCompared, .stages = kBoth, .value_name = "FILE"}),
      declare("num_generations_eval", G::kEvaluation, o.num_generations_eval,
              "completions per prompt of eval_data; by default num_generations",
              {.range = between(1, 1024), .stages = kBoth}),
      declare("temperature", G::kSampling, o.temperature, "temperature of sampling and of the loss",
              {.range = above(0), .stages = kBoth}),
  };
}

std::vector<BoundOption> sampling_options(RolloutStageOptions& o) {
  return {
      declare("max_completion_length", G::kSampling, o.max_completion_length, "tokens of a completion",
              {.range = between(1, 1e6), .stages = kBoth}),
      declare("top_p", G::kSampling, o.top_p, "sample from the likeliest tokens whose probabilities add up to this",
              {.range = above(0, 1), .stages = kBoth}),
      declare("top_k", G::kSampling, o.top_k, "sample from the k likeliest tokens; 0: from all",
              {.range = at_least(0), .stages = kBoth}),
      declare("min_p", G::kSampling, o.min_p, "sample from tokens at least this likely relative to the likeliest",
              {.range = between(0, 1), .stages = kBoth}),
      declare("repetition_penalty", G::kSampling, o.repetition_penalty, "penalty of tokens that occurred; 1: none",
              {.range = above(0), .stages = kBoth}),
  };
}

std::vector<BoundOption> reward_source_options(RolloutStageOptions& o) {
  RewardOptions& r = o.rewards;
  return {
      declare("reward_model", G::kRewards, o.reward_model, "reward models that score completions",
              {.on_resume = OnResume::kNotCompared, .stages = kBoth, .value_name = "DIR"}),
      declare("reward_funcs", G::kRewards, r.functions, "functions that score completions", {.stages = kBoth}),
      declare("reward_weights", G::kRewards, o.reward_weights,
              "weight of each reward, those of models first; by default 1 each", {.stages = kBoth}),
      declare("answer_column", G::kRewards, r.answer_column, "column that match, number and cosine compare with",
              {.stages = kBoth}),
      declare("answer_pattern", G::kRewards, r.answer_pattern,
              "regular expression whose last match, or the first group of it, is the answer of match",
              {.stages = kBoth}),
      declare("answer_ignore_case", G::kRewards, r.ignores_case, "match ignores case", {.stages = kBoth}),
      declare("answer_mark", G::kRewards, r.needs_answer_mark, "number reads only the number behind ####",
              {.stages = kBoth}),
      declare("reward_pattern", G::kRewards, r.regex, "regular expression of regex", {.stages = kBoth}),
      declare("format_pattern", G::kRewards, r.format_pattern, "regular expression of format, for the whole completion",
              {.stages = kBoth}),
      declare("overlong_cache", G::kRewards, r.overlong_cache,
              "tokens below max_completion_length from which overlong punishes",
              {.range = between(0, 1e6), .stages = kBoth}),
      declare("repetition_ngram", G::kRewards, r.repetition_ngram, "tokens of the n-grams of repetition",
              {.range = between(1, 1024), .stages = kBoth}),
      declare("truncated_reward", G::kRewards, r.truncated_reward,
              "reward of truncated for a completion without an end", {.stages = kBoth}),
      declare("count_text", G::kRewards, r.count_text, "what count counts", {.stages = kBoth}),
      declare("reward_program", G::kRewards, r.program.command,
              "command of the function program: one JSON object per completion on its standard input, one number per "
              "line on its standard output; run without a shell",
              {.stages = kBoth, .value_name = "COMMAND"}),
      declare("reward_wrapper", G::kRewards, r.program.wrapper, "command that runs reward_program, such as a sandbox",
              {.stages = kBoth, .value_name = "COMMAND"}),
      declare("reward_timeout", G::kRewards, r.program.timeout_seconds, "seconds in which reward_program must answer",
              {.range = above(0), .on_resume = OnResume::kMayChange, .stages = kBoth}),
      declare("reward_memory_mb", G::kRewards, r.program.max_memory_mb, "memory of reward_program; 0: no limit",
              {.range = at_least(0), .on_resume = OnResume::kMayChange, .stages = kBoth}),
      declare("on_reward_error", G::kRewards, r.program.on_error,
              "what a failing answer of reward_program does: skip leaves the completion without that reward",
              {.on_resume = OnResume::kMayChange, .stages = kBoth}),
  };
}

std::vector<BoundOption> reward_use_options(RolloutStageOptions& o) {
  return {
      declare("mask_truncated_completions", G::kRewards, o.mask_truncated_completions,
              "completions without an end are not trained", {.stages = kBoth}),
      declare("scale_rewards", G::kRewards, o.scale_rewards,
              "the standard deviation that advantages are divided by: of the group, of the round, or none",
              {.stages = kGrpoOnly}),
      declare("multi_objective_aggregation", G::kRewards, o.multi_objective_aggregation,
              "whether rewards are summed before or after they are normalized", {.stages = kGrpoOnly}),
      declare("reward_clip_range", G::kRewards, o.reward_clip_range, "lowest and highest reward, which others become",
              {.stages = kRlooOnly}),
      declare("normalize_advantages", G::kRewards, o.normalize_advantages,
              "advantages of a round get mean 0 and standard deviation 1", {.stages = kRlooOnly}),
  };
}

std::vector<BoundOption> policy_loss_options(RolloutStageOptions& o) {
  PolicyOptions& p = o.policy;
  return {
      declare("beta", G::kObjective, o.beta,
              "strength of the penalty for leaving the reference model, the one that training starts from; 0: no "
              "reference",
              {.range = at_least(0), .stages = kBoth}),
      declare("loss_type", G::kObjective, p.loss, "loss of the completions", {.stages = kGrpoOnly}),
      declare("importance_sampling_level", G::kObjective, p.importance_level,
              "whether each token has a ratio of probabilities of its own or each completion", {.stages = kGrpoOnly}),
      declare("epsilon", G::kObjective, p.epsilon, "ratios below 1 minus this are clipped",
              {.range = at_least(0), .stages = kBoth}),
      declare("epsilon_high", G::kObjective, p.epsilon_high,
              "ratios above 1 plus this are clipped; by default epsilon; of cispo the largest weight",
              {.range = at_least(0), .stages = kBoth}),
      declare("delta", G::kObjective, p.delta, "largest ratio where clipping does not apply; by default none",
              {.range = above(0), .stages = kGrpoOnly}),
      declare("use_bias_correction_kl", G::kObjective, p.uses_bias_correction_kl,
              "multiply the KL divergence by the ratio of probabilities", {.stages = kGrpoOnly}),
      declare("sapo_temperature_pos", G::kObjective, p.sapo_temperature_pos,
              "temperature of sapo at advantages above 0", {.range = above(0), .stages = kGrpoOnly}),
      declare("sapo_temperature_neg", G::kObjective, p.sapo_temperature_neg, "temperature of sapo at other advantages",
              {.range = above(0), .stages = kGrpoOnly}),
      declare("vespo_k_pos", G::kObjective, p.vespo_k_pos, "power of vespo at advantages of 0 and more",
              {.range = at_least(0), .stages = kGrpoOnly}),
      declare("vespo_lambda_pos", G::kObjective, p.vespo_lambda_pos, "decay of vespo at advantages of 0 and more",
              {.range = at_least(0), .stages = kGrpoOnly}),
      declare("vespo_k_neg", G::kObjective, p.vespo_k_neg, "power of vespo at advantages below 0",
              {.range = at_least(0), .stages = kGrpoOnly}),
      declare("vespo_lambda_neg", G::kObjective, p.vespo_lambda_neg, "decay of vespo at advantages below 0",
              {.range = at_least(0), .stages = kGrpoOnly}),
      declare("off_policy_mask_threshold", G::kObjective, p.off_policy_mask_threshold,
              "completions of negative advantage that became this much less likely per token are not trained",
              {.stages = kGrpoOnly}),
      declare("top_entropy_quantile", G::kObjective, p.top_entropy_quantile,
              "share of tokens, those of highest entropy, that are trained",
              {.range = above(0, 1), .stages = kGrpoOnly}),
      declare("entropy_coef", G::kObjective, p.entropy_coef, "weight of a bonus for entropy", {.stages = kGrpoOnly}),
      declare("use_adaptive_entropy", G::kObjective, p.uses_adaptive_entropy,
              "change entropy_coef after each step so that the entropy stays near entropy_target",
              {.stages = kGrpoOnly}),
      declare("entropy_coef_min", G::kObjective, p.entropy_coef_min, "lowest entropy_coef that adapts",
              {.stages = kGrpoOnly}),
      declare("entropy_coef_max", G::kObjective, p.entropy_coef_max, "highest entropy_coef that adapts",
              {.stages = kGrpoOnly}),
      declare("entropy_coef_delta", G::kObjective, p.entropy_coef_delta, "change of entropy_coef in a step",
              {.stages = kGrpoOnly}),
      declare("entropy_target", G::kObjective, p.entropy_target, "entropy above which the bonus does not apply",
              {.stages = kGrpoOnly}),
      declare("max_kl", G::kObjective, o.max_kl,
              "KL divergence per token from the reference model above which the run stops, with a checkpoint",
              {.range = above(0), .on_resume = OnResume::kMayChange, .stages = kBoth}),
      declare("sync_ref_model", G::kObjective, o.sync_ref_model,
              "move the reference model toward the trained one from time to time", {.stages = kBoth}),
      declare("ref_model_mixup_alpha", G::kObjective, o.ref_model_mixup_alpha,
              "share of the trained model in a synchronized reference", {.range = between(0, 1), .stages = kBoth}),
      declare("ref_model_sync_steps", G::kObjective, o.ref_model_sync_steps,
              "steps between synchronizations of the reference", {.range = at_least(1), .stages = kBoth}),
  };
}

}  // namespace

SamplingOptions RolloutStageOptions::sampling() const {
  SamplingOptions sampling;
  sampling.temperature = temperature;
  sampling.top_k = top_k;
  sampling.top_p = top_p;
  sampling.min_p = min_p;
  sampling.repetition_penalty = repetition_penalty;
  return sampling;
}

RolloutStageOptions default_rollout_options(Stage stage) {
  RolloutStageOptions options;
  if (stage == Stage::kRloo) {
    options.num_generations = 2;
    options.beta = 0.05;
  }
  return options;
}

std::vector<BoundOption> bind_options(RolloutStageOptions& o) {
  std::vector<BoundOption> options = round_options(o);
  append(options, sampling_options(o));
  append(options, reward_source_options(o));
  append(options, reward_use_options(o));
  append(options, policy_loss_options(o));
  return options;
}

std::vector<BoundOption> bind_evaluation_options(RolloutStageOptions& o) {
  std::vector<BoundOption> options = {
      declare("num_generations", G::kSampling, o.num_generations, "completions per prompt, at least k of pass@k",
              {.range = between(1, 1024)}),
      declare("temperature", G::kSampling, o.temperature, "temperature of sampling; 0: always the likeliest token",
              {.range = at_least(0)})};
  append(options, sampling_options(o));
  append(options, reward_source_options(o));
  return options;
}

PolicyOptions policy_options(Stage stage, const RolloutStageOptions& o) {
  PolicyOptions options = stage == Stage::kGrpo ? o.policy : PolicyOptions::rloo();
  if (stage == Stage::kGrpo) {
    options.beta = o.beta;
  } else {
    options.epsilon = o.policy.epsilon;
    options.epsilon_high = o.policy.epsilon_high;
  }
  options.temperature = o.temperature;
  options.max_completion_length = o.max_completion_length;
  return options;
}

AdvantageOptions advantage_options(const RolloutStageOptions& o) {
  return {o.num_generations, o.reward_weights, o.scale_rewards, o.multi_objective_aggregation};
}

RlooAdvantageOptions rloo_advantage_options(const RolloutStageOptions& o) {
  RlooAdvantageOptions options;
  options.num_generations = o.num_generations;
  options.reward_weights = o.reward_weights;
  if (o.reward_clip_range.size() == 2) options.reward_clip_range = {o.reward_clip_range[0], o.reward_clip_range[1]};
  options.beta = o.beta;
  options.normalizes_advantages = o.normalize_advantages;
  return options;
}

void validate_evaluation(const RolloutStageOptions& o) {
  validate(o.sampling());
  if (o.temperature == 0 && o.num_generations > 1)
    throw_error<UsageError>("--num_generations {}: with --temperature 0 all completions of a prompt are equal; make 1",
                            o.num_generations);
  RewardOptions rewards = o.rewards;
  rewards.max_completion_length = o.max_completion_length;
  validate(rewards);
  AdvantageOptions advantages = advantage_options(o);
  advantages.num_generations = std::max<int64_t>(advantages.num_generations, 2);  // one is enough where nothing learns
  validate(advantages, o.num_rewards());
}

void validate(Stage stage, const RolloutStageOptions& o, bool trains_adapter) {
  validate(policy_options(stage, o));
  validate(o.sampling());
  if (o.steps_per_generation && o.generation_batch_size)
    throw UsageError("--generation_batch_size: says the same as --steps_per_generation; leave out one of them");
  if (!o.reward_clip_range.empty() &&
      (o.reward_clip_range.size() != 2 || !(o.reward_clip_range[0] <= o.reward_clip_range[1])))
    throw_error<UsageError>("--reward_clip_range: expected the lowest and the highest reward, got {} numbers",
                            o.reward_clip_range.size());
  if (o.rollouts.empty() && o.num_rewards() == 0)
    throw UsageError("expected a --reward_model, --reward_funcs, or recorded --rollouts");
  RewardOptions rewards = o.rewards;
  rewards.max_completion_length = o.max_completion_length;
  validate(rewards);
  if (o.num_rewards() > 0) {
    if (stage == Stage::kGrpo) validate(advantage_options(o), o.num_rewards());
    if (stage == Stage::kRloo) validate(rloo_advantage_options(o), o.num_rewards());
  }
  if (o.max_kl && o.beta == 0) throw UsageError("--max_kl: there is no reference model with --beta 0");
  if (!o.sync_ref_model) return;
  if (o.beta == 0) throw UsageError("--sync_ref_model: there is no reference model with --beta 0");
  if (trains_adapter)
    throw UsageError(
        "--sync_ref_model: expected a model that is trained as a whole; the reference of an adapter is "
        "its frozen base");
}

}  // namespace plumb
