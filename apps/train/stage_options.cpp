#include "apps/train/stage_options.hpp"

#include <cmath>
#include <optional>
#include <utility>

#include "apps/models/model_setup.hpp"
#include "apps/models/plan_input.hpp"
#include "apps/models/stage_model.hpp"
#include "lib/base/check.hpp"
#include "lib/objective/dpo.hpp"
#include "lib/objective/grpo.hpp"
#include "lib/objective/reward.hpp"
#include "lib/objective/sft.hpp"

namespace plumb {

namespace {

constexpr double kTolerance = 1e-3;
constexpr double kBfloat16Tolerance = 5e-2;  // a bfloat16 matmul rounds differently with another number of rows

TrainerOptions trainer_options(const TrainOptions& o, int64_t num_steps, const RunControl& control) {
  return {{o.adam_beta1, o.adam_beta2, o.adam_epsilon, o.weight_decay},
          schedule_of(o, num_steps),
          o.max_grad_norm,
          [&control] { return control.wants_stop(); },
          o.spike_threshold,
          [check_steps = o.memory_check_steps, save_steps = o.save_steps, num_steps](int64_t step) {
            const auto is_multiple_of = [step](int64_t steps) { return steps > 0 && step % steps == 0; };
            return is_multiple_of(check_steps) || is_multiple_of(save_steps) || step == num_steps;
          }};
}

CheckpointOptions checkpoint_options(const TrainOptions& o) {
  return {.output_dir = o.output_dir,
          .save_steps = o.save_steps,
          .save_total_limit = o.save_total_limit,
          .is_async = o.async_save,
          .is_rollback_wanted = o.on_bad_steps == OnBadSteps::kRollback,
          .best_metric = best_metric(o)};
}

}  // namespace

/// TRL has this loss in all trainers but that of reward models.
static double router_loss_coefficient(const TrainOptions& o, const ModelConfig& config) {
  if (o.stage == Stage::kReward) return 0;
  const bool has_experts = config.mixture.num_experts > 0;
  if (!has_experts && o.router_aux_loss_coef.value_or(0) > 0)
    throw_error<UsageError>("--router_aux_loss_coef: expected a mixture of experts, got {}, a dense model",
                            o.model.model);
  return has_experts ? o.router_aux_loss_coef.value_or(config.mixture.loss_coefficient) : 0;
}

EngineOptions engine_options(const TrainOptions& o, const ModelConfig& config) {
  return {.dtype = scalar_type(o.model.dtype),
          .has_gradient_checkpointing = o.gradient_checkpointing,
          .accumulation_steps = o.gradient_accumulation_steps,
          .reduction = o.reduction,
          .has_8bit_moments = o.optim == Optimizer::kAdamw8bit,
          .router_loss_coefficient = router_loss_coefficient(o, config)};
}

std::unique_ptr<Objective> make_objective(const TrainOptions& o, const ModelConfig& config) {
  switch (o.stage) {
    case Stage::kSft:
      return std::make_unique<SftObjective>(config.output(), o.sft.loss_type);
    case Stage::kReward: {
      const double center = o.reward.center_rewards_coefficient;
      return std::make_unique<RewardObjective>(config.output(), center > 0 ? std::optional(center) : std::nullopt,
                                               config.pad_token_id);
    }
    case Stage::kGrpo:
    case Stage::kRloo:
      return std::make_unique<GrpoObjective>(policy_options(o.stage, o.rl), config.output());
    case Stage::kDpo:
      break;
  }
  return std::make_unique<DpoObjective>(dpo_options(o.dpo), config.output());
}

SamplerOptions sampler_options(const TrainOptions& o, const StageRows& rows) {
  SamplerOptions sampler = {.seed = static_cast<uint64_t>(o.seed),
                            .shuffle = o.shuffle,
                            .drop_last = o.dataloader_drop_last,
                            .rows_per_micro_batch = o.per_device_train_batch_size,
                            .accumulation_steps = o.gradient_accumulation_steps};
  if (!o.data_weights.empty()) sampler.mix = mix_sources(rows.rows_of_items, o.data_weights, o.stopping_strategy);
  return sampler;
}

RowsOptions rows_options(const TrainOptions& o) {
  return {.directory = o.output_dir + "/data",
          .tokenizer = model_at_start(o).tokenizer(),
          .use = o.stage == Stage::kSft ? RowUse::kSft : RowUse::kPreference,
          .needs_whole_texts = o.stage == Stage::kReward,
          .packed_tokens = o.packing ? std::optional(max_row_tokens(o)) : std::nullopt,
          .keeps_items_apart = !o.data_weights.empty()};
}

PairSetting pair_setting(const TrainOptions& o) {
  return {.start = model_at_start(o),
          .dtype = o.model.dtype,
          .data = o.data,
          .dpo = o.dpo,
          .seed = o.seed,
          .directory = o.output_dir + "/data"};
}

StartupCheckOptions startup_check_options(const TrainOptions& o) {
  return {.output_dir = o.output_dir,
          .tolerance = o.model.dtype == Precision::kFloat32 ? kTolerance : kBfloat16Tolerance,
          .rows_per_micro_batch = o.per_device_train_batch_size,
          .accumulation_steps = o.gradient_accumulation_steps,
          .starts_at_reference = o.stage == Stage::kDpo && o.dpo.ref_model.empty(),
          .has_score = o.stage == Stage::kReward};
}

Schedule schedule_of(const TrainOptions& o, int64_t num_steps) {
  const auto warmup = static_cast<int64_t>(
      o.warmup_steps < 1 ? std::ceil(o.warmup_steps * static_cast<double>(num_steps)) : o.warmup_steps);
  return {o.lr_scheduler_type, o.learning_rate, warmup, num_steps};
}

RunLength run_length(const TrainOptions& o, int64_t num_rows, int num_ranks) {
  const int64_t rows_per_step = num_ranks * o.gradient_accumulation_steps * o.per_device_train_batch_size;
  const int64_t steps_per_epoch =
      o.dataloader_drop_last ? num_rows / rows_per_step : (num_rows + rows_per_step - 1) / rows_per_step;
  if (steps_per_epoch == 0)
    throw_error<UsageError>(
        "{} rows do not fill one step of {} rows ({} ranks x {} accumulation steps x {} rows) and "
        "--dataloader_drop_last drops the rest",
        num_rows, rows_per_step, num_ranks, o.gradient_accumulation_steps, o.per_device_train_batch_size);
  const int64_t num_steps =
      o.max_steps > 0 ? o.max_steps
                      : static_cast<int64_t>(std::ceil(o.num_train_epochs * static_cast<double>(steps_per_epoch)));
  return {steps_per_epoch, num_steps};
}

StepLoopOptions step_loop_options(const TrainOptions& o, int64_t num_steps, const RunControl& control) {
  return {.trainer = trainer_options(o, num_steps, control),
          .checkpoints = checkpoint_options(o),
          .on_bad_steps = o.on_bad_steps,
          .logging_steps = o.logging_steps,
          .eval_steps = o.eval_steps,
          .loads_best_model = o.load_best_model_at_end};
}

}  // namespace plumb
