// The options of training: what all stages have in common, and what only one has. Each is declared once, in
// train_options.cpp.
#pragma once

#include <array>
#include <string_view>

#include "apps/options/lora_options.hpp"
#include "apps/options/options.hpp"
#include "lib/objective/preference_loss.hpp"
#include "partition/canonical_sum.hpp"

namespace plumb {

enum class Stage { kSft, kReward, kDpo };
inline constexpr std::array kStages = {Stage::kSft, Stage::kReward, Stage::kDpo};

/// "sft", "reward", "dpo": the command, the section of a pipeline's file, and its directory.
std::string_view name_of(Stage stage);

struct SftStageOptions {
  std::string loss_type = "nll";
};

struct RewardStageOptions {
  double center_rewards_coefficient = 0;
};

struct DpoStageOptions {
  double beta = 0.1;
  std::vector<std::string> loss_type = {"sigmoid"};
  std::vector<std::string> loss_weights;  // numbers; empty: all 1
  double label_smoothing = 0;
  std::string f_divergence_type = "reverse_kl";
  double f_alpha_divergence_coef = 0.5;
  std::optional<double> ld_alpha;
  double discopop_tau = 0.05;
  bool use_weighting = false;
  std::string ref_model;  // "": the model that training starts from

  // Where pairs come from, and what a reward model does to them.
  std::string reward_model;
  std::string pairs = "given";
  std::string pair_filter = "none";
  double pair_threshold = 0;
  int64_t num_generations = 4;
  int64_t max_completion_length = 256;
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1;
  int64_t num_win_rate_prompts = 64;
};

/// Of steps that change nothing, see apps/bad_steps.hpp. kStop: the first ends the run. kSkip: the third on end does.
/// kRollback: after the third on end the run goes back to the model of its last checkpoint before them, and on behind
/// them.
enum class OnBadSteps { kStop, kSkip, kRollback };

/// "stop", "skip" or "rollback". Throws UsageError naming these.
OnBadSteps parse_on_bad_steps(std::string_view name);

struct TrainOptions {
  Stage stage = Stage::kSft;
  ModelOptions model;
  DataOptions data;
  std::vector<std::string> eval_data;
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
  std::string lr_scheduler_type = "linear";
  std::string optim = "adamw_torch";
  double warmup_steps = 0;  // below 1: a share of all steps
  double weight_decay = 0.0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;
  int64_t logging_steps = 10;
  int64_t eval_steps = 0;  // 0: at the end of each epoch
  bool gradient_checkpointing = true;
  std::string reduction = "canonical";
  std::string save_dtype = "float32";  // of the exported model
  bool startup_checks = true;
  std::string on_bad_steps = "stop";
  double spike_threshold = 0;     // 0: no step is a spike
  double watchdog_seconds = 600;  // 0: none
  std::string max_time;           // as parse_duration() takes it; "": no limit
  int64_t save_steps = 500;       // steps between checkpoints; 0: none
  int64_t save_total_limit = 2;
  bool load_best_model_at_end = false;
  std::string metric_for_best_model;      // "": the loss, where the best model is wanted
  std::optional<bool> greater_is_better;  // default: unless the metric's name ends in "loss"
  int64_t memory_check_steps = 16;        // 0: only before checkpoints
  bool async_save = false;
  std::string resume = "auto";  // or never, or the directory of a checkpoint

  bool replaces_changed_run = false;  // no option: a pipeline's stage whose inputs are others starts anew
  bool exports_merged = false;        // no option: a pipeline's next stage takes adapters merged into the model

  LoraOptions lora;
  SftStageOptions sft;
  RewardStageOptions reward;
  DpoStageOptions dpo;
  OptionTexts texts;  // what parse_options() made of the command line: for run.json
};

/// TRL's defaults for the stage.
TrainOptions default_options(Stage stage);

/// Declares what options.stage has. `options` must outlive the description.
void declare(OptionsDescription& description, TrainOptions& options);

/// Throws UsageError for values out of range or that contradict each other.
void validate(const TrainOptions& options);

/// What tells the best of several evaluations, by the name that its objective gives it.
struct BestMetric {
  std::string name;
  bool is_greater_better;
};
/// None where nobody asks which is best.
std::optional<BestMetric> best_metric(const TrainOptions& options);

/// Of --optim: adamw_8bit and its other name in transformers.
bool has_8bit_moments(const TrainOptions& options);

/// Throws UsageError.
DpoOptions dpo_options(const DpoStageOptions& options);

Reduction parse_reduction(const std::string& name);

}  // namespace plumb
