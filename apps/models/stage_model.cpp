#include "apps/models/stage_model.hpp"

#include <optional>

#include "lib/base/check.hpp"
#include "lib/objective/dpo.hpp"
#include "lib/objective/reward.hpp"
#include "lib/objective/sft.hpp"

namespace plumb {

EngineOptions engine_options(const TrainOptions& o) {
  return {scalar_type(o.model.dtype), o.gradient_checkpointing, o.gradient_accumulation_steps, o.reduction,
          o.optim == Optimizer::kAdamw8bit};
}

ModelSource model_at_start(const TrainOptions& o) {
  return {o.model.model, o.lora.adapter, o.lora.quantize == Quantization::kNf4};
}

ModelSource reference_model(const TrainOptions& o) {
  return o.dpo.ref_model.empty() ? model_at_start(o) : ModelSource{o.dpo.ref_model};
}

ModelSource trained_model(const TrainOptions& o) {
  if (!o.lora.is_used()) return {o.output_dir + "/model"};
  return {o.model.model, o.output_dir + "/adapter", o.lora.quantize == Quantization::kNf4};
}

HfModel open_source(const TrainOptions& o) {
  const bool has_score = o.stage == Stage::kReward;
  HfModel source(o.model.model, {.head = has_score ? HeadKind::kScore : HeadKind::kLanguageModel,
                                 .seed = static_cast<uint64_t>(o.seed),
                                 .quantizes = o.lora.quantize == Quantization::kNf4});
  if (source.is_quantized() && !o.lora.is_used())
    throw_error<UsageError>("{}: a quantized model is frozen; give --lora_r to train an adapter beside it",
                            o.model.model);
  return source;
}

std::unique_ptr<Objective> make_objective(const TrainOptions& o, const ModelConfig& config) {
  switch (o.stage) {
    case Stage::kSft:
      return std::make_unique<SftObjective>(config.rms_norm_eps, o.sft.loss_type);
    case Stage::kReward: {
      const double center = o.reward.center_rewards_coefficient;
      return std::make_unique<RewardObjective>(config.rms_norm_eps, center > 0 ? std::optional(center) : std::nullopt,
                                               config.pad_token_id);
    }
    case Stage::kDpo:
      break;
  }
  return std::make_unique<DpoObjective>(dpo_options(o.dpo), config.rms_norm_eps);
}

}  // namespace plumb
