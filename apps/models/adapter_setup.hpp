// From options and directories to adapters on a frozen base: what is adapted, what the base is made of, and the weights
// of both into the memory of the ranks.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "apps/options/lora_options.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/peft_adapter.hpp"
#include "partition/adapted_model.hpp"

namespace plumb {

/// What an adapter is and where its first values come from.
struct AdapterStart {
  LoraConfig config;
  Adapter adapter;
  std::optional<PeftAdapter> continued;  // none: a new one
};

/// How the base holds a parameter, if in NF4. What has an adapter merged into it is plain.
std::optional<Nf4Format> nf4_format_of(const HfModel& base, const Parameter& parameter);

/// base: the base model's configuration, with the head of the stage. A score head is always trained and saved whole,
/// also beside an adapter that had none. Throws UsageError and DataError as resolve_options() and PeftAdapter.
AdapterStart find_adapter(const LoraOptions& options, const ModelConfig& base, const std::string& base_directory);

/// Collective: the model, loaded. An error on one rank is thrown by all.
std::unique_ptr<AdaptedModel> load_adapted_model(const Communicator& comm, const ModelConfig& config,
                                                 const HfModel& base, const AdapterStart& start,
                                                 const EngineOptions& options, uint64_t seed);

/// Collective: a model that is only evaluated, without gradients or moments; with the adapter of a directory unless
/// that is "". `options` of `base` are those of the model, so that it may be quantized.
std::unique_ptr<AdaptedModel> load_frozen_model(const Communicator& comm, const ModelConfig& config,
                                                const HfModel& base, const std::string& adapter_directory,
                                                at::ScalarType dtype);

}  // namespace plumb
