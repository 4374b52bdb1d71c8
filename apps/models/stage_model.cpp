#include "apps/models/stage_model.hpp"

#include "apps/models/adapter_setup.hpp"
#include "io/huggingface/peft_targets.hpp"
#include "lib/base/check.hpp"

namespace plumb {

HeadKind head_of(Stage stage) { return stage == Stage::kReward ? HeadKind::kScore : HeadKind::kLanguageModel; }

ModelSource model_at_start(const TrainOptions& o) {
  return {o.model.model, o.lora.adapter, o.lora.quantize == Quantization::kNf4, o.data.eos_token,
          o.data.tokenizer_behavior};
}

ModelSource reference_model(const std::string& ref_model, const ModelSource& start) {
  return ref_model.empty() ? start : ModelSource{ref_model};
}

ModelSource trained_model(const std::string& output_dir, const ModelOptions& model, const LoraOptions& lora) {
  if (!lora.is_used()) return {output_dir + "/model"};
  return {model.model, output_dir + "/adapter", lora.quantize == Quantization::kNf4};
}

HfModel open_source(const ModelOptions& model, const LoraOptions& lora, HeadKind head, int64_t seed) {
  HfModelOptions options = {
      .head = head, .seed = static_cast<uint64_t>(seed), .quantizes = lora.quantize == Quantization::kNf4};
  options = beside_adapter(options, lora.adapter);
  if (lora.lora_r > 0) options.unties_head = options_split_tied_head(lora);
  HfModel source(model.model, options);
  if (source.is_quantized() && !lora.is_used())
    throw_error<UsageError>("{}: a quantized model is frozen; give --lora_r to train an adapter beside it",
                            model.model);
  return source;
}

}  // namespace plumb
