#include "apps/options/train_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "apps/options/options.hpp"
#include "lib/base/check.hpp"
#include "lib/model/sampling.hpp"
#include "lib/optim/schedule.hpp"

namespace plumb {

namespace po = boost::program_options;

namespace {

/// "a b", "a,b" and several words alike.
std::vector<std::string> split_lists(const std::vector<std::string>& words) {
  std::vector<std::string> items;
  for (std::string word : words) {
    std::replace(word.begin(), word.end(), ',', ' ');
    std::istringstream stream(word);
    for (std::string item; stream >> item;) items.push_back(item);
  }
  return items;
}

std::vector<double> parse_numbers(const std::vector<std::string>& words) {
  std::vector<double> numbers;
  for (const std::string& text : split_lists(words)) {
    const char* end = text.data() + text.size();
    double number = 0;
    if (const auto read = std::from_chars(text.data(), end, number); read.ec != std::errc() || read.ptr != end)
      throw_error<UsageError>("--loss_weights: expected numbers, got {}", text);
    numbers.push_back(number);
  }
  return numbers;
}

void declare_sft(OptionsDescription& description, SftStageOptions& o) {
  description.add_options()("loss_type", choice(o.loss_type, "loss_type"), "nll or dft");
}

void declare_reward(OptionsDescription& description, RewardStageOptions& o) {
  description.add_options()("center_rewards_coefficient", with_default(o.center_rewards_coefficient),
                            "pulls rewards toward a mean of zero; 0: not at all");
}

void declare_dpo(OptionsDescription& description, DpoStageOptions& o) {
  auto add = description.add_options();
  add("beta", with_default(o.beta), "how strongly the model is held to the reference model; ipo's tau");
  const auto set_losses = [&o](const std::vector<std::string>& words) {
    o.loss_type.clear();
    for (const std::string& name : split_lists(words))
      o.loss_type.push_back(value_named<PreferenceLoss>(name, "loss_type"));
  };
  const auto set_weights = [&o](const std::vector<std::string>& words) { o.loss_weights = parse_numbers(words); };
  add("loss_type",
      po::value<std::vector<std::string>>()->multitoken()->default_value({"sigmoid"}, "sigmoid")->notifier(set_losses),
      "one or more of sigmoid, hinge, ipo, exo_pair, nca_pair, robust, bco_pair, sppo_hard, aot, aot_unpaired, "
      "apo_zero, apo_down, discopop, sft, sigmoid_norm");
  add("loss_weights", po::value<std::vector<std::string>>()->multitoken()->notifier(set_weights),
      "of each loss_type; default: 1 each");
  add("label_smoothing", with_default(o.label_smoothing), "share of labels taken to be wrong");
  add("f_divergence_type", choice(o.f_divergence_type, "f_divergence_type"),
      "reverse_kl, forward_kl, js_divergence or alpha_divergence");
  add("f_alpha_divergence_coef", with_default(o.f_alpha_divergence_coef), "alpha of alpha_divergence");
  add("ld_alpha", po::value<double>()->notifier([&o](double value) { o.ld_alpha = value; }),
      "weight of the tokens that the longer answer has beyond the shorter (length-desensitized DPO)");
  add("discopop_tau", with_default(o.discopop_tau), "temperature of discopop");
  add("use_weighting", with_default(o.use_weighting), "pairs that the model itself would write count more (WPO)");
  add("ref_model", with_default(o.ref_model), "reference model; none: the model that training starts from");
  add("reward_model", with_default(o.reward_model), "reward model that scores pairs and completions");
  add("pairs", choice(o.pairs, "pairs"),
      "given: those of the data; sampled: the best and the worst of num_generations completions of each prompt, as the "
      "reward model sees them");
  add("pair_filter", choice(o.pair_filter, "pair_filter"),
      "none, drop or flip: what happens to pairs whose reward margin is below pair_threshold");
  add("pair_threshold", with_default(o.pair_threshold), "of pair_filter: chosen reward minus rejected reward");
  add("num_generations", with_default(o.num_generations), "completions of each prompt, for sampled pairs");
  add("max_completion_length", with_default(o.max_completion_length), "tokens of a sampled completion");
  add("temperature", with_default(o.temperature), "of sampling");
  add("top_k", with_default(o.top_k), "sample from the k likeliest tokens only; 0: from all");
  add("top_p", with_default(o.top_p), "sample from the likeliest tokens that together reach this probability");
  add("num_win_rate_prompts", with_default(o.num_win_rate_prompts),
      "prompts of eval_data that the model answers before and after training, for the reward model to compare");
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

}  // namespace

TrainOptions default_options(Stage stage) {
  TrainOptions options;
  options.stage = stage;
  options.learning_rate = stage == Stage::kSft ? 2e-5 : stage == Stage::kReward ? 1e-4 : 1e-6;
  return options;
}

void declare(OptionsDescription& description, TrainOptions& o) {
  declare(description, o.model);
  declare(description, o.data, o.stage == Stage::kSft);
  auto add = description.add_options();
  add("eval_data", po::value(&o.eval_data)->multitoken(), "files of rows to evaluate on");
  add("output_dir", po::value(&o.output_dir), "where the run is written");
  add("overwrite_output_dir", with_default(o.overwrite_output_dir), "replace a run that is there");
  add("seed", with_default(o.seed), "of the order of rows, a new score head and sampling");
  add("shuffle", with_default(o.shuffle), "false: rows in file order");
  add("packing", with_default(o.packing), "fill rows of max_length with several texts, or pairs of twice that");
  add("dataloader_drop_last", with_default(o.dataloader_drop_last), "drop the last, shorter batch of an epoch");
  add("per_device_train_batch_size", with_default(o.per_device_train_batch_size), "rows of a micro-batch");
  add("per_device_eval_batch_size", with_default(o.per_device_eval_batch_size), "rows of a micro-batch of evaluation");
  add("gradient_accumulation_steps", with_default(o.gradient_accumulation_steps), "micro-batches per rank and step");
  add("num_train_epochs", with_default(o.num_train_epochs), "passes over the data");
  add("max_steps", with_default(o.max_steps), "steps in all; overrides num_train_epochs when above 0");
  add("learning_rate", with_default(o.learning_rate), "peak");
  add("lr_scheduler_type", choice(o.lr_scheduler_type, "lr_scheduler_type"),
      "linear, cosine, constant or constant_with_warmup");
  add("optim", choice(o.optim, "optim"),
      "adamw_torch; adamw_8bit: its moments in 8 bits, a quarter of the memory (blockwise, as in bitsandbytes)");
  add("warmup_steps", with_default(o.warmup_steps), "steps from 0 to the peak; below 1: a share of all steps");
  add("weight_decay", with_default(o.weight_decay), "of matrices; norms and biases have none");
  add("adam_beta1", with_default(o.adam_beta1), "");
  add("adam_beta2", with_default(o.adam_beta2), "");
  add("adam_epsilon", with_default(o.adam_epsilon), "");
  add("max_grad_norm", with_default(o.max_grad_norm), "gradients are clipped to this norm; 0: not at all");
  add("logging_steps", with_default(o.logging_steps), "steps between lines of metrics");
  add("eval_steps", with_default(o.eval_steps), "steps between evaluations; 0: after each epoch");
  add("gradient_checkpointing", with_default(o.gradient_checkpointing),
      "recompute blocks in backward instead of keeping their activations");
  add("reduction", choice(o.reduction, "reduction"), "canonical: same bits on any number of ranks; fast: less memory");
  add("save_dtype", choice(o.save_dtype, "save_dtype"), "float32 or bfloat16: of the exported model");
  add("startup_checks", with_default(o.startup_checks), "prove on a few rows, before training, that the run is sound");
  add("on_bad_steps", choice(o.on_bad_steps, "on_bad_steps"),
      "a step whose loss or gradient norm is not finite, or a spike, changes nothing. stop: it ends the run; skip: its "
      "rows are named, and the third on end ends the run; rollback: after the third the run goes back to the model of "
      "its last checkpoint and on with the rows that follow");
  add("spike_threshold", with_default(o.spike_threshold),
      "a loss so many standard deviations above its running mean is a spike, and a gradient norm 10 times the "
      "median of recent ones; 0: none is");
  add("watchdog_seconds", with_default(o.watchdog_seconds),
      "a job that gets nothing done for so long ends with exit code 76, naming the rank behind; 0: never");
  const auto set_time = [&o](const std::string& text) {
    if (!text.empty()) o.max_seconds = parse_duration(text, "max_time");
  };
  add("max_time", po::value<std::string>()->default_value("", "none")->notifier(set_time),
      "seconds, MM:SS or HH:MM:SS: the run stops in time, with a checkpoint; as it does for SLURM_JOB_END_TIME");
  add("save_steps", with_default(o.save_steps), "steps between checkpoints, from which a stopped run goes on; 0: none");
  add("save_total_limit", with_default(o.save_total_limit), "checkpoints that are kept");
  add("load_best_model_at_end", with_default(o.load_best_model_at_end),
      "the model that is exported is that of the checkpoint whose evaluation was best, unless the last is better");
  add("metric_for_best_model", with_default(o.metric_for_best_model),
      "a metric of evaluations, with or without eval_ before it: the best checkpoint stays beside the last ones; none: "
      "the loss, with load_best_model_at_end");
  add("greater_is_better", po::value<bool>()->notifier([&o](bool value) { o.greater_is_better = value; }),
      "of metric_for_best_model (default: unless its name ends in loss)");
  add("memory_check_steps", with_default(o.memory_check_steps),
      "every so many steps, and before every checkpoint, checksums prove that memory kept parameters and moments since "
      "they were updated; if not, the run ends with exit code 75, naming the rank; 0: only before checkpoints");
  add("async_save", with_default(o.async_save),
      "checkpoints are written from a copy in memory while training goes on: as many bytes more as parameters and "
      "moments");
  const auto set_resume = [&o](const std::string& text) {
    using Mode = ResumeFrom::Mode;
    o.resume = text == "auto"    ? ResumeFrom{}
               : text == "never" ? ResumeFrom{Mode::kNever}
                                 : ResumeFrom{Mode::kCheckpoint, text};
  };
  add("resume", po::value<std::string>()->default_value("auto")->notifier(set_resume),
      "auto: a run that was stopped goes on from its last checkpoint; never; or the directory of a checkpoint");
  declare(description, o.lora);
  if (o.stage == Stage::kSft) declare_sft(description, o.sft);
  if (o.stage == Stage::kReward) declare_reward(description, o.reward);
  if (o.stage == Stage::kDpo) declare_dpo(description, o.dpo);
}

void validate(const TrainOptions& o) {
  const auto at_least = [](int64_t value, int64_t least, std::string_view name) {
    check_range(value >= least, name, fmt::format("at least {}", least), static_cast<double>(value));
  };
  const auto between_1_and = [](int64_t most, int64_t value, std::string_view name) {
    check_range(value >= 1 && value <= most, name, fmt::format("1 to {}", most), static_cast<double>(value));
  };
  between_1_and(1'000'000, o.per_device_train_batch_size, "per_device_train_batch_size");
  between_1_and(1'000'000, o.per_device_eval_batch_size, "per_device_eval_batch_size");
  between_1_and(1'000'000, o.gradient_accumulation_steps, "gradient_accumulation_steps");
  at_least(o.logging_steps, 1, "logging_steps");
  at_least(o.eval_steps, 0, "eval_steps");
  at_least(o.save_steps, 0, "save_steps");
  at_least(o.save_total_limit, 1, "save_total_limit");
  at_least(o.memory_check_steps, 0, "memory_check_steps");
  validate_best_model(o);
  if (o.resume.mode == ResumeFrom::Mode::kCheckpoint && o.overwrite_output_dir)
    throw_error<UsageError>("--resume {}: resumes a run; leave out --overwrite_output_dir", o.resume.checkpoint);
  check_range(o.data.max_length >= 0 && o.data.max_length <= 1'000'000'000, "max_length", "0 to 1000000000",
              static_cast<double>(o.data.max_length));
  if (o.packing) at_least(o.data.max_length, 1, "max_length");
  check_range(o.max_steps <= 1'000'000'000, "max_steps", "at most 1000000000", static_cast<double>(o.max_steps));
  check_range(o.num_train_epochs <= 1e6, "num_train_epochs", "at most 1000000", o.num_train_epochs);
  at_least(o.seed, 0, "seed");
  check_range(o.max_steps > 0 || (std::isfinite(o.num_train_epochs) && o.num_train_epochs > 0), "num_train_epochs",
              "more than 0", o.num_train_epochs);
  check_range(std::isfinite(o.learning_rate) && o.learning_rate >= 0, "learning_rate", "0 or more", o.learning_rate);
  check_range(o.warmup_steps >= 0 && (o.warmup_steps < 1 || o.warmup_steps == std::floor(o.warmup_steps)),
              "warmup_steps", "a whole number of steps, or a share below 1", o.warmup_steps);
  check_range(o.warmup_steps <= 1e9, "warmup_steps", "at most 1000000000", o.warmup_steps);
  check_range(std::isfinite(o.weight_decay) && o.weight_decay >= 0, "weight_decay", "0 or more", o.weight_decay);
  check_range(o.adam_beta1 >= 0 && o.adam_beta1 < 1, "adam_beta1", "0 to below 1", o.adam_beta1);
  check_range(o.adam_beta2 >= 0 && o.adam_beta2 < 1, "adam_beta2", "0 to below 1", o.adam_beta2);
  check_range(o.adam_epsilon > 0, "adam_epsilon", "more than 0", o.adam_epsilon);
  check_range(o.max_grad_norm >= 0, "max_grad_norm", "0 or more", o.max_grad_norm);
  check_range(std::isfinite(o.watchdog_seconds) && o.watchdog_seconds >= 0, "watchdog_seconds", "0 or more",
              o.watchdog_seconds);
  check_range(std::isfinite(o.spike_threshold) && o.spike_threshold >= 0, "spike_threshold", "0 or more",
              o.spike_threshold);
  if (o.on_bad_steps == OnBadSteps::kRollback && o.save_steps == 0)
    throw UsageError("--on_bad_steps rollback: goes back to checkpoints; give --save_steps");
  validate(o.lora);
  if (o.stage == Stage::kReward)
    check_range(std::isfinite(o.reward.center_rewards_coefficient) && o.reward.center_rewards_coefficient >= 0,
                "center_rewards_coefficient", "0 or more", o.reward.center_rewards_coefficient);
  if (o.stage != Stage::kDpo) return;
  validate(dpo_options(o.dpo));
  validate(SamplingOptions{o.dpo.temperature, o.dpo.top_k, o.dpo.top_p});
  check_range(o.dpo.num_generations >= 2 && o.dpo.num_generations <= 1024, "num_generations", "2 to 1024",
              static_cast<double>(o.dpo.num_generations));
  between_1_and(1'000'000, o.dpo.max_completion_length, "max_completion_length");
  at_least(o.dpo.num_win_rate_prompts, 0, "num_win_rate_prompts");
  check_range(std::isfinite(o.dpo.pair_threshold), "pair_threshold", "a number", o.dpo.pair_threshold);
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
