// The model that a stage trains, and its objective.
#pragma once

#include <memory>

#include "apps/models/model_setup.hpp"
#include "apps/options/train_options.hpp"
#include "io/huggingface/hf_model.hpp"
#include "lib/objective/objective.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

/// The options of the trained model's engine.
EngineOptions engine_options(const TrainOptions& options);

/// The model that training starts from, for inference.
ModelSource model_at_start(const TrainOptions& options);
/// The model that DPO compares with: --ref_model, or the one that training starts from.
ModelSource reference_model(const TrainOptions& options);
/// The model in output_dir after training.
ModelSource trained_model(const TrainOptions& options);

/// The model that training starts from, with the head of the stage. Throws as HfModel does, and UsageError if a
/// quantized model would be trained without an adapter.
HfModel open_source(const TrainOptions& options);

/// The objective of the stage. config: of the model, with pad_token_id if it has a score head.
std::unique_ptr<Objective> make_objective(const TrainOptions& options, const ModelConfig& config);

}  // namespace plumb
