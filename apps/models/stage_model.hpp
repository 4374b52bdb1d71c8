// The model that a stage trains, and what it is trained for.
#pragma once

#include <memory>

#include "apps/models/model_setup.hpp"
#include "apps/options/train_options.hpp"
#include "io/huggingface/hf_model.hpp"
#include "lib/objective/objective.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

EngineOptions engine_options(const TrainOptions& options);

/// What training starts from, as it is run.
ModelSource model_at_start(const TrainOptions& options);
/// What is in output_dir once training has ended.
ModelSource trained_model(const TrainOptions& options);

/// What training starts from, with the stage's head on it. Throws as HfModel does, and UsageError where the whole of a
/// quantized model would be trained.
HfModel open_source(const TrainOptions& options);

/// config: of the model, with the padding token where it has a score head.
std::unique_ptr<Objective> make_objective(const TrainOptions& options, const ModelConfig& config);

}  // namespace plumb
