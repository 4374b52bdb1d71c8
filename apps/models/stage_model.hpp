// The models of a stage: the one that it trains, the one that it starts from and the one that it compares with.
#pragma once

#include <cstdint>
#include <string>

#include "apps/models/model_setup.hpp"
#include "apps/options/lora_options.hpp"
#include "apps/options/train_options.hpp"
#include "io/huggingface/hf_model.hpp"

namespace plumb {

/// The head that the stage trains.
HeadKind head_of(Stage stage);

/// The model that training starts from, for inference.
ModelSource model_at_start(const TrainOptions& options);
/// The model that DPO compares with: --ref_model, or the one that training starts from.
ModelSource reference_model(const std::string& ref_model, const ModelSource& start);
/// The model in output_dir after training.
ModelSource trained_model(const std::string& output_dir, const ModelOptions& model, const LoraOptions& lora);

/// The model that training starts from; a head that it lacks is initialized from the seed. Throws as HfModel does, and
/// UsageError if a quantized model would be trained without an adapter.
HfModel open_source(const ModelOptions& model, const LoraOptions& lora, HeadKind head, int64_t seed);

}  // namespace plumb
