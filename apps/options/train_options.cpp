#include "apps/options/train_options.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "apps/options/options.hpp"
#include "lib/base/check.hpp"
#include "lib/model/sampling.hpp"

namespace plumb {

namespace {

using G = OptionGroup;
constexpr StageSet kSftOnly = {.sft = true};
constexpr StageSet kRewardOnly = {.reward = true};
constexpr StageSet kDpoOnly = {.dpo = true};
constexpr StageSet kAllButReward = {.sft = true, .dpo = true, .grpo = true, .rloo = true};
constexpr double kMaxSteps = 1e9;

std::vector<BoundOption> schedule_options(TrainOptions& o) {
  return {
      declare("seed", G::kSchedule, o.seed, "seed of the order of rows, of a new score head and of sampling",
              {.range = at_least(0)}),
      declare("shuffle", G::kSchedule, o.shuffle, "false: rows in file order"),
      declare("packing", G::kSchedule, o.packing,
              "concatenate texts into rows of max_length, or pairs into rows of twice that", {.stages = kRowStages}),
      declare("dataloader_drop_last", G::kSchedule, o.dataloader_drop_last,
              "drop the last batch of an epoch if it is smaller", {.stages = kRowStages}),
      declare("per_device_train_batch_size", G::kSchedule, o.per_device_train_batch_size,
              "rows per micro-batch and rank", {.range = between(1, 1e6)}),
      eval_batch_size_option(o.per_device_eval_batch_size),
      declare("gradient_accumulation_steps", G::kSchedule, o.gradient_accumulation_steps,
              "micro-batches per rank and step", {.range = between(1, 1e6), .on_resume = OnResume::kSameBatch}),
      declare("num_train_epochs", G::kSchedule, o.num_train_epochs, "passes over the data",
              {.range = at_most(1e6), .on_resume = OnResume::kMayGrow}),
      declare("max_steps", G::kSchedule, o.max_steps, "total number of steps; overrides num_train_epochs if above 0",
              {.range = at_most(kMaxSteps), .on_resume = OnResume::kMayGrow}),
      declare("learning_rate", G::kSchedule, o.learning_rate, "peak learning rate, reached after warmup",
              {.range = at_least(0)}),
      declare("lr_scheduler_type", G::kSchedule, o.lr_scheduler_type, "learning rate after warmup"),
  };
}

std::vector<BoundOption> optimizer_options(TrainOptions& o) {
  return {
      declare("optim", G::kOptimizer, o.optim,
              "AdamW; the 8-bit ones keep its moments in a quarter of the memory (blockwise, as in bitsandbytes)"),
      declare("warmup_steps", G::kSchedule, o.warmup_steps,
              "steps of warmup from 0 to the peak; below 1: a fraction of the total steps",
              {.range = between(0, kMaxSteps)}),
      declare("weight_decay", G::kOptimizer, o.weight_decay, "decay of matrices; norms and biases have none",
              {.range = at_least(0)}),
      declare("adam_beta1", G::kOptimizer, o.adam_beta1, "decay rate of AdamW's mean of gradients",
              {.range = from_to_below(0, 1)}),
      declare("adam_beta2", G::kOptimizer, o.adam_beta2, "decay rate of AdamW's mean of squared gradients",
              {.range = from_to_below(0, 1)}),
      declare("adam_epsilon", G::kOptimizer, o.adam_epsilon, "added to AdamW's denominator",
              {.range = or_infinite(above(0))}),
      declare("max_grad_norm", G::kOptimizer, o.max_grad_norm, "gradients are clipped to this norm; 0: no clipping",
              {.range = or_infinite(at_least(0))}),
  };
}

std::vector<BoundOption> run_options(TrainOptions& o) {
  constexpr OnResume kMayChange = OnResume::kMayChange, kNotCompared = OnResume::kNotCompared;
  return {
      declare("logging_steps", G::kEvaluation, o.logging_steps, "steps between lines of metrics",
              {.range = at_least(1), .on_resume = kMayChange}),
      declare("eval_steps", G::kEvaluation, o.eval_steps, "steps between evaluations; 0: after each epoch",
              {.range = at_least(0), .on_resume = kMayChange}),
      declare("gradient_checkpointing", G::kMemory, o.gradient_checkpointing,
              "recompute activations in the backward pass instead of keeping them", {.on_resume = kMayChange}),
      declare("reduction", G::kMemory, o.reduction,
              "canonical: the same bits on any number of ranks; fast: less memory"),
      declare("save_dtype", G::kOutput, o.save_dtype, "number format of the exported model"),
      declare("startup_checks", G::kRobustness, o.startup_checks,
              "check on a few rows, before training, that the run is sound", {.on_resume = kMayChange}),
      declare(
          "on_bad_steps", G::kRobustness, o.on_bad_steps,
          "what to do at a non-finite loss or gradient or at a spike, which update nothing. stop: end the run; skip: "
          "name the rows, end the run after 3 in a row; rollback: restore the last checkpoint after 3 in a row and "
          "continue with the rows that follow",
          {.on_resume = kMayChange}),
      declare("spike_threshold", G::kRobustness, o.spike_threshold,
              "a loss this many standard deviations above its running mean is a spike, as is a gradient norm 10 times "
              "the median of recent ones; 0: no spikes",
              {.range = at_least(0), .on_resume = kMayChange}),
      declare("watchdog_seconds", G::kRobustness, o.watchdog_seconds,
              "a job without progress for this long ends with exit code 76 and names the rank it waits for; 0: never",
              {.range = at_least(0), .on_resume = kNotCompared}),
      declare_with<std::string>(
          "max_time", G::kRobustness, "",
          [&o](const std::string& text) {
            o.max_seconds = text.empty() ? std::nullopt : std::optional(parse_duration(text, "max_time"));
          },
          "time limit, after which the run stops with a checkpoint: seconds, MM:SS or HH:MM:SS; SLURM_JOB_END_TIME "
          "counts too",
          {.on_resume = kNotCompared, .value_name = "TIME"}),
      declare("memory_check_steps", G::kRobustness, o.memory_check_steps,
              "steps between checks, by checksum, that parameters and moments in memory have not changed since their "
              "update; each checkpoint is preceded by one; a failed check ends the run with exit code 75 and names the "
              "rank; 0: only before checkpoints",
              {.range = at_least(0), .on_resume = kNotCompared}),
  };
}

std::vector<BoundOption> checkpoint_options(TrainOptions& o) {
  constexpr OnResume kMayChange = OnResume::kMayChange, kNotCompared = OnResume::kNotCompared;
  return {
      declare("save_steps", G::kCheckpoints, o.save_steps,
              "steps between checkpoints, from which a stopped run resumes; one more is saved before the export; 0: "
              "none is kept",
              {.range = at_least(0), .on_resume = kMayChange}),
      declare("save_total_limit", G::kCheckpoints, o.save_total_limit, "number of checkpoints kept",
              {.range = at_least(1), .on_resume = kMayChange}),
      declare("load_best_model_at_end", G::kCheckpoints, o.load_best_model_at_end,
              "export the checkpoint with the best evaluation, unless the last model is better"),
      declare("metric_for_best_model", G::kCheckpoints, o.metric_for_best_model,
              "metric of evaluations, with or without eval_ before it, whose best checkpoint is kept beside the last "
              "ones; by default the loss, with load_best_model_at_end"),
      declare("greater_is_better", G::kCheckpoints, o.greater_is_better,
              "direction of metric_for_best_model; by default true unless its name ends in loss"),
      declare("async_save", G::kCheckpoints, o.async_save,
              "write checkpoints from a copy in memory while training continues; needs as much memory again as "
              "parameters and moments",
              {.on_resume = kNotCompared}),
      declare_with<std::string>("resume", G::kCheckpoints, "auto",
                                [&o](const std::string& text) {
                                  using Mode = ResumeFrom::Mode;
                                  if (text == "auto") o.resume = {Mode::kAuto};
                                  if (text == "never") o.resume = {Mode::kNever};
                                  if (text != "auto" && text != "never") o.resume = {Mode::kCheckpoint, text};
                                },
                                "auto: a stopped run resumes from its last checkpoint; never: refuse a directory with "
                                "a run; or the directory "
                                "of a checkpoint",
                                {.on_resume = kNotCompared, .value_name = "auto|never|DIR"}),
  };
}

std::vector<BoundOption> dpo_loss_options(DpoStageOptions& o) {
  return {
      declare("beta", G::kObjective, o.beta, "strength of the penalty for leaving the reference model; tau of ipo",
              {.range = above(0), .stages = kDpoOnly}),
      declare("loss_type", G::kObjective, o.loss_type, "one or more DPO losses", {.stages = kDpoOnly}),
      declare("loss_weights", G::kObjective, o.loss_weights, "weight of each loss_type; by default 1 each",
              {.stages = kDpoOnly}),
      declare("label_smoothing", G::kObjective, o.label_smoothing, "assumed fraction of wrong labels",
              {.range = from_to_below(0, 1), .stages = kDpoOnly}),
      declare("f_divergence_type", G::kObjective, o.f_divergence_type, "divergence from the reference model",
              {.stages = kDpoOnly}),
      declare("f_alpha_divergence_coef", G::kObjective, o.f_alpha_divergence_coef, "alpha of alpha_divergence",
              {.stages = kDpoOnly}),
      declare("ld_alpha", G::kObjective, o.ld_alpha,
              "weight of the tokens by which the longer answer exceeds the shorter (length-desensitized DPO)",
              {.range = between(0, 1), .stages = kDpoOnly}),
      declare("discopop_tau", G::kObjective, o.discopop_tau, "temperature of discopop",
              {.range = above(0), .stages = kDpoOnly}),
      declare("use_weighting", G::kObjective, o.use_weighting,
              "weight pairs by their probability under the trained model (WPO)", {.stages = kDpoOnly}),
      declare("ref_model", G::kObjective, o.ref_model,
              "reference model; by default the model that training starts from",
              {.on_resume = OnResume::kNotCompared, .stages = kDpoOnly, .value_name = "DIR"}),
  };
}

std::vector<BoundOption> pair_source_options(DpoStageOptions& o) {
  return {
      declare("reward_model", G::kPairs, o.reward_model, "reward model that scores pairs and completions",
              {.on_resume = OnResume::kNotCompared, .stages = kDpoOnly, .value_name = "DIR"}),
      declare("pairs", G::kPairs, o.pairs,
              "given: the pairs of the data; sampled: of num_generations completions of each prompt, those with the "
              "highest and the lowest reward",
              {.stages = kDpoOnly}),
      declare("pair_filter", G::kPairs, o.pair_filter,
              "what to do with pairs whose reward margin is below pair_threshold", {.stages = kDpoOnly}),
      declare("pair_threshold", G::kPairs, o.pair_threshold,
              "margin of pair_filter: chosen reward minus rejected reward", {.stages = kDpoOnly}),
      declare("num_generations", G::kSampling, o.num_generations, "completions per prompt, for sampled pairs",
              {.range = between(2, 1024), .stages = kDpoOnly}),
      declare("max_completion_length", G::kSampling, o.max_completion_length, "tokens of a sampled completion",
              {.range = between(1, 1e6), .stages = kDpoOnly}),
      declare("temperature", G::kSampling, o.temperature, "temperature of sampling",
              {.range = at_least(0), .stages = kDpoOnly}),
      declare("top_k", G::kSampling, o.top_k, "sample from the k likeliest tokens; 0: from all",
              {.range = at_least(0), .stages = kDpoOnly}),
      declare("top_p", G::kSampling, o.top_p, "sample from the likeliest tokens whose probabilities add up to this",
              {.range = above(0, 1), .stages = kDpoOnly}),
      declare("num_win_rate_prompts", G::kEvaluation, o.num_win_rate_prompts,
              "prompts of eval_data that the model answers before and after training, for the reward model to compare",
              {.range = at_least(0), .stages = kDpoOnly}),
  };
}

/// The options of all stages, in the order in which run.json lists them.
std::vector<BoundOption> bind_all(TrainOptions& o) {
  std::vector<BoundOption> options = bind_options(o.model);
  append(options, bind_options(o.data));
  append(options, {declare("eval_data", G::kEvaluation, o.eval_data, "files of rows to evaluate on",
                           {.on_resume = OnResume::kNotCompared, .value_name = "FILE"}),
                   declare("data_weights", G::kData, o.data_weights,
                           "a weight for each item of data: their shares of the rows of every epoch",
                           {.range = above(0), .stages = kRowStages}),
                   declare("stopping_strategy", G::kData, o.stopping_strategy,
                           "with data_weights, how long an epoch is: until the rows of one item are used up, or those "
                           "of all, in which smaller ones repeat",
                           {.stages = kRowStages}),
                   declare("output_dir", G::kOutput, o.output_dir, "directory of the run",
                           {.on_resume = OnResume::kNotCompared, .value_name = "DIR"}),
                   overwrite_option(o.overwrite_output_dir, "replace a run that is already there")});
  append(options, schedule_options(o));
  append(options, optimizer_options(o));
  append(options, run_options(o));
  append(options, checkpoint_options(o));
  append(options, bind_options(o.lora));
  append(options, {declare("loss_type", G::kObjective, o.sft.loss_type,
                           "negative log-likelihood, or dynamic fine-tuning (dft)", {.stages = kSftOnly}),
                   declare("center_rewards_coefficient", G::kObjective, o.reward.center_rewards_coefficient,
                           "strength of the pull of rewards toward a mean of zero; 0: none",
                           {.range = at_least(0), .stages = kRewardOnly}),
                   declare("router_aux_loss_coef", G::kObjective, o.router_aux_loss_coef,
                           "mixtures of experts: weight of the loss that asks routers for equal loads, 0 for none; by "
                           "default router_aux_loss_coef of config.json",
                           {.range = at_least(0), .stages = kAllButReward})});
  append(options, dpo_loss_options(o.dpo));
  append(options, pair_source_options(o.dpo));
  append(options, bind_options(o.rl));
  return options;
}

/// The option of this name that another stage declares, perhaps differently.
void merge_declarations(Option& option, const Option& other) {
  if (option.help != other.help) option.help += "; " + other.help;
  if (option.default_text != other.default_text) option.default_text.clear();
  option.is_list = option.is_list || other.is_list;
  for (const std::string& choice : other.choices)
    if (std::find(option.choices.begin(), option.choices.end(), choice) == option.choices.end())
      option.choices.push_back(choice);
}

/// A model can only be the best of those that are both evaluated and saved.
void validate_best_model(const TrainOptions& o) {
  if (!best_metric(o)) return;
  const char* name = o.load_best_model_at_end ? "load_best_model_at_end" : "metric_for_best_model";
  if (o.eval_data.empty()) throw_error<UsageError>("--{}: needs --eval_data", name);
  if (o.eval_steps == 0 || o.save_steps == 0 || o.save_steps % o.eval_steps != 0)
    throw_error<UsageError>("--{}: expected --save_steps to be a multiple of --eval_steps, got {} and {}", name,
                            o.save_steps, o.eval_steps);
}

void validate_weights(const TrainOptions& o) {
  if (o.data_weights.empty()) return;
  const size_t num_items = o.data.files_per_item.empty() ? o.data.data.size() : o.data.files_per_item.size();
  if (o.data_weights.size() != num_items)
    throw_error<UsageError>("--data_weights: expected a weight for each of the {} items of --data, got {}", num_items,
                            o.data_weights.size());
  if (!o.shuffle) throw UsageError("--data_weights: mixes rows at random; leave out --shuffle false");
  if (o.stage == Stage::kDpo && o.dpo.pairs == PairSource::kSampled)
    throw UsageError("--data_weights: expected the pairs of --data, got --pairs sampled, which makes its own");
}

}  // namespace

TrainOptions default_options(Stage stage) {
  TrainOptions options;
  options.stage = stage;
  if (makes_rollouts(stage)) {
    options.rl = default_rollout_options(stage);
    options.data.max_length = 0;  // prompts are never truncated
  }
  options.learning_rate = stage == Stage::kSft ? 2e-5 : stage == Stage::kReward ? 1e-4 : 1e-6;
  return options;
}

std::vector<BoundOption> bind_options(TrainOptions& o) {
  std::vector<BoundOption> options = bind_all(o);
  std::erase_if(options, [&](const BoundOption& bound) { return !bound.option.stages.has(o.stage); });
  return options;
}

const std::vector<Option>& training_options(Stage stage) {
  static const std::map<Stage, std::vector<Option>> options = [] {
    std::map<Stage, std::vector<Option>> of_stages;
    for (const Stage each : kStages) {
      TrainOptions defaults = default_options(each);
      of_stages[each] = options_of(bind_options(defaults));
    }
    return of_stages;
  }();
  return options.at(stage);
}

std::vector<Option> training_options() {
  std::vector<Option> all;
  for (const Stage stage : kStages)
    for (const Option& option : training_options(stage)) {
      const auto same = std::find_if(all.begin(), all.end(), [&](const Option& o) { return o.name == option.name; });
      if (same == all.end())
        all.push_back(option);
      else
        merge_declarations(*same, option);
    }
  return all;
}

TrainOptions parse_train_options(Stage stage, const Settings& settings) {
  TrainOptions options = default_options(stage);
  options.texts = parse(bind_options(options), settings);
  return options;
}

OnResume on_resume(std::string_view name) {
  for (const Stage stage : kStages)
    if (const Option* option = find_option(training_options(stage), name)) return option->on_resume;
  return OnResume::kMustMatch;
}

void validate(const TrainOptions& o) {
  validate_best_model(o);
  validate_weights(o);
  if (o.resume.mode == ResumeFrom::Mode::kCheckpoint && o.overwrite_output_dir)
    throw_error<UsageError>("--resume {}: resumes a run; leave out --overwrite_output_dir", o.resume.checkpoint);
  if (o.packing && o.data.max_length == 0)
    throw UsageError("--packing: fills rows of --max_length, so it expects 1 or more, got 0");
  if (o.max_steps <= 0 && !(o.num_train_epochs > 0))
    throw_error<UsageError>("--num_train_epochs: expected more than 0, got {}", o.num_train_epochs);
  if (o.warmup_steps >= 1 && o.warmup_steps != std::floor(o.warmup_steps))
    throw_error<UsageError>("--warmup_steps: expected a whole number of steps, or a fraction below 1, got {}",
                            o.warmup_steps);
  if (o.on_bad_steps == OnBadSteps::kRollback && o.save_steps == 0)
    throw UsageError("--on_bad_steps rollback: restores checkpoints; give --save_steps");
  validate(o.lora);
  if (makes_rollouts(o.stage)) {
    validate(o.stage, o.rl, o.lora.is_used());
    if (o.data.data.empty() && o.rl.rollouts.empty())
      throw UsageError("expected --data, with prompts, or --rollouts, with recorded completions");
    if (!o.rl.rollouts.empty() && o.num_train_epochs != TrainOptions().num_train_epochs)
      throw UsageError("--num_train_epochs: recorded --rollouts are trained once, round by round; leave it out");
  }
  if (o.stage != Stage::kDpo) return;
  validate(dpo_options(o.dpo));
  validate(SamplingOptions{o.dpo.temperature, o.dpo.top_k, o.dpo.top_p});
  if (!o.dpo.reward_model.empty()) return;
  if (o.dpo.pairs == PairSource::kSampled)
    throw UsageError("--pairs sampled: needs a --reward_model that scores completions");
  if (o.dpo.pair_filter != PairFilter::kNone)
    throw_error<UsageError>("--pair_filter {}: needs a --reward_model that scores pairs", name_of(o.dpo.pair_filter));
}

std::optional<BestMetric> best_metric(const TrainOptions& o) {
  std::string name = o.metric_for_best_model;
  if (name.empty() && !o.load_best_model_at_end) return std::nullopt;
  if (name.empty()) name = "loss";
  if (name.starts_with("eval_")) name.erase(0, 5);
  const bool is_greater_better = o.greater_is_better.value_or(!name.ends_with("loss"));
  return BestMetric{std::move(name), is_greater_better};
}

DpoOptions dpo_options(const DpoStageOptions& o) {
  DpoOptions options;
  options.beta = o.beta;
  options.losses = weighted_losses(o.loss_type, o.loss_weights);
  options.label_smoothing = o.label_smoothing;
  options.f_divergence = o.f_divergence_type;
  options.f_alpha_divergence_coef = o.f_alpha_divergence_coef;
  options.ld_alpha = o.ld_alpha;
  options.discopop_tau = o.discopop_tau;
  options.uses_weighting = o.use_weighting;
  return options;
}

}  // namespace plumb
