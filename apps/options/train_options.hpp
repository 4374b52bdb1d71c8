// The options of training: those of all stages, and those that only one has. Each is declared once, in
// bind_options().
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "apps/options/lora_options.hpp"
#include "apps/options/options.hpp"
#include "apps/options/rollout_options.hpp"
#include "io/dataset/sampler.hpp"
#include "lib/kernels/kernels.hpp"
#include "lib/objective/preference_loss.hpp"
#include "lib/optim/schedule.hpp"
#include "partition/canonical_sum.hpp"

namespace plumb {

/// TRL's names of --loss_type of sft.
template <>
inline constexpr auto kNames<TokenLoss> = std::to_array<Named<TokenLoss>>({{"nll", TokenLoss::kNll},
                                                                           {"chunked_nll", TokenLoss::kNll},
                                                                           {"dft", TokenLoss::kDft}});

/// The names of --optim, as in transformers.
enum class Optimizer { kAdamw, kAdamw8bit };
template <>
inline constexpr auto kNames<Optimizer> = std::to_array<Named<Optimizer>>({{"adamw_torch", Optimizer::kAdamw},
                                                                           {"adamw", Optimizer::kAdamw},
                                                                           {"adamw_torch_fused", Optimizer::kAdamw},
                                                                           {"adamw_8bit", Optimizer::kAdamw8bit},
                                                                           {"adamw_bnb_8bit", Optimizer::kAdamw8bit}});

/// Where the pairs of DPO come from: the data, or answers that the model samples and a reward model ranks.
enum class PairSource { kGiven, kSampled };
template <>
inline constexpr auto kNames<PairSource> = std::to_array<Named<PairSource>>({{"given", PairSource::kGiven},
                                                                             {"sampled", PairSource::kSampled}});

/// The treatment of pairs whose reward margin is below --pair_threshold.
enum class PairFilter { kNone, kDrop, kFlip };
template <>
inline constexpr auto kNames<PairFilter> = std::to_array<Named<PairFilter>>({{"none", PairFilter::kNone},
                                                                             {"drop", PairFilter::kDrop},
                                                                             {"flip", PairFilter::kFlip}});

struct SftStageOptions {
  TokenLoss loss_type = TokenLoss::kNll;
};

struct RewardStageOptions {
  double center_rewards_coefficient = 0;
};

struct DpoStageOptions {
  double beta = 0.1;
  std::vector<PreferenceLoss> loss_type = {PreferenceLoss::kSigmoid};
  std::vector<double> loss_weights;  // empty: all 1
  double label_smoothing = 0;
  FDivergence f_divergence_type = FDivergence::kReverseKl;
  double f_alpha_divergence_coef = 0.5;
  std::optional<double> ld_alpha;
  double discopop_tau = 0.05;
  bool use_weighting = false;
  std::string ref_model;  // "": the model that training starts from

  // Where pairs come from, and what a reward model does to them.
  std::string reward_model;
  PairSource pairs = PairSource::kGiven;
  PairFilter pair_filter = PairFilter::kNone;
  double pair_threshold = 0;
  int64_t num_generations = 4;
  int64_t max_completion_length = 256;
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1;
  int64_t num_win_rate_prompts = 64;
};

/// The treatment of bad steps, which update nothing (see apps/train/bad_steps.hpp). kStop: the first one ends the run.
/// kSkip: the third in a row ends it. kRollback: after three in a row the run restores the checkpoint before them and
/// continues with the rows after them.
enum class OnBadSteps { kStop, kSkip, kRollback };
template <>
inline constexpr auto kNames<OnBadSteps> = std::to_array<Named<OnBadSteps>>({{"stop", OnBadSteps::kStop},
                                                                             {"skip", OnBadSteps::kSkip},
                                                                             {"rollback", OnBadSteps::kRollback}});

/// Which checkpoint a run starts from: its own last one where there is one, none, or a given one.
struct ResumeFrom {
  enum class Mode { kAuto, kNever, kCheckpoint };
  Mode mode = Mode::kAuto;
  std::string checkpoint = {};  // directory, of kCheckpoint
};

struct TrainOptions {
  Stage stage = Stage::kSft;
  ModelOptions model;
  DataOptions data;
  std::vector<std::string> eval_data;
  std::vector<double> data_weights;
  StoppingStrategy stopping_strategy = StoppingStrategy::kFirstExhausted;
  std::string output_dir;
  bool overwrite_output_dir = false;
  int64_t seed = 42;
  bool shuffle = true;
  bool packing = false;
  bool dataloader_drop_last = false;
  int64_t per_device_train_batch_size = 8;
  int64_t per_device_eval_batch_size = 8;
  int64_t gradient_accumulation_steps = 1;
  double num_train_epochs = 3.0;
  int64_t max_steps = -1;
  double learning_rate = 2e-5;
  ScheduleKind lr_scheduler_type = ScheduleKind::kLinear;
  Optimizer optim = Optimizer::kAdamw;
  double warmup_steps = 0;  // below 1: a share of all steps
  double weight_decay = 0.0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;
  int64_t logging_steps = 10;
  int64_t eval_steps = 0;  // 0: at the end of each epoch
  bool gradient_checkpointing = true;
  Reduction reduction = Reduction::kCanonical;
  Precision save_dtype = Precision::kFloat32;  // of the exported model
  bool startup_checks = true;
  std::optional<double> router_aux_loss_coef;  // default: that of config.json
  OnBadSteps on_bad_steps = OnBadSteps::kStop;
  double spike_threshold = 0;         // 0: no step is a spike
  double watchdog_seconds = 600;      // 0: none
  std::optional<double> max_seconds;  // --max_time
  int64_t save_steps = 500;           // steps between checkpoints; 0: none
  int64_t save_total_limit = 2;
  bool load_best_model_at_end = false;
  std::string metric_for_best_model;      // "": the loss, where the best model is wanted
  std::optional<bool> greater_is_better;  // default: unless the metric's name ends in "loss"
  int64_t memory_check_steps = 16;        // 0: only before checkpoints
  bool async_save = false;
  ResumeFrom resume;

  bool replaces_changed_run = false;  // no option: a stage of a pipeline starts from scratch where its inputs changed
  bool exports_merged = false;        // no option: the next stage of a pipeline needs the adapter merged into the model

  LoraOptions lora;
  SftStageOptions sft;
  RewardStageOptions reward;
  DpoStageOptions dpo;
  RolloutStageOptions rl;  // grpo, rloo
  OptionTexts texts;       // every option with its value, for run.json
};

/// TRL's defaults for the stage.
TrainOptions default_options(Stage stage);

/// The options of options.stage.
std::vector<BoundOption> bind_options(TrainOptions& options);
/// Their declarations, of one stage and of all of them; an option that stages declare differently has the choices of
/// all, and no default.
const std::vector<Option>& training_options(Stage stage);
std::vector<Option> training_options();

/// The options of a stage, with its defaults where there is no setting. Throws UsageError as parse().
TrainOptions parse_train_options(Stage stage, const Settings& settings);

/// Throws UsageError for values that contradict each other.
void validate(const TrainOptions& options);

/// Whether a resumed run may have another value; what no stage declares must match.
OnResume on_resume(std::string_view option);

/// The metric that decides which evaluation is the best, by the name that its objective has for it.
struct BestMetric {
  std::string name;
  bool is_greater_better;
};
/// None where no best model is wanted.
std::optional<BestMetric> best_metric(const TrainOptions& options);

/// Throws UsageError.
DpoOptions dpo_options(const DpoStageOptions& options);

}  // namespace plumb
