// The input of the memory plan, built in one place, so that plumb plan and the run print the same plan.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "apps/options/train_options.hpp"
#include "io/huggingface/hf_model.hpp"
#include "partition/memory_plan.hpp"

namespace plumb {

/// The model that is trained, and how the base of an adapter is stored.
struct PlannedModel {
  ModelConfig config;
  std::optional<Adapter> adapter;  // nullopt: the whole model is trained
  std::function<std::optional<Nf4Format>(const Parameter&)> nf4_format;
};

/// The processes of the run.
struct PlannedRanks {
  int num_ranks;
  int ranks_per_node;
  int num_threads;        // per rank
  int64_t program_bytes;  // memory of one rank before the model is loaded
};

/// max_row_tokens: upper limit for the tokens of one row.
PlanInput plan_input(const TrainOptions& options, const PlannedModel& model, const PlannedRanks& ranks,
                     int64_t max_row_tokens);

/// Upper limit for the tokens of one row of data by --max_length; a pair has two texts.
int64_t max_row_tokens(const TrainOptions& options);
/// The same for any stage; a prompt is completed.
int64_t max_row_tokens(const TrainOptions& options, const ModelConfig& config);

}  // namespace plumb
