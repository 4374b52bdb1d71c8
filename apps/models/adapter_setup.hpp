// Adapters on a frozen base, from options and directories: which modules are adapted, how the base is stored, and the
// weights of both in the memory of the ranks.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "apps/options/lora_options.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/peft_adapter.hpp"
#include "partition/adapted_model.hpp"

namespace plumb {

/// An adapter and the source of its initial values.
struct AdapterStart {
  LoraConfig config;
  ModelConfig base;  // as adapted_model() has it
  Adapter adapter;
  std::optional<PeftAdapter> continued;  // nullopt: a new adapter
};

/// The NF4 format of a parameter of the base; none if it is not quantized. A base with a merged adapter is never
/// quantized.
std::optional<Nf4Format> nf4_format_of(const HfModel& base, const Parameter& parameter);

/// The options to open the base beside an adapter in `directory` ("": none), which is not merged into it.
HfModelOptions beside_adapter(HfModelOptions options, const std::string& directory);

/// The adapter that the options describe. base: the base model's configuration, with the head of the stage. A score
/// head is always trained and saved in full, even if the continued adapter had none. Throws UsageError and DataError as
/// resolve_options() and PeftAdapter, and for an adapter of which training cannot continue a part.
AdapterStart find_adapter(const LoraOptions& options, const ModelConfig& base, const std::string& base_directory);

/// Collective: loads base and adapter. All ranks throw AgreedError if one fails.
std::unique_ptr<AdaptedModel> load_adapted_model(const Communicator& comm, const ModelConfig& config,
                                                 const HfModel& base, const AdapterStart& start,
                                                 const EngineOptions& options, uint64_t seed);

/// Collective: a model for evaluation only, without gradients or moments, with the adapter of a directory unless it is
/// "". It is quantized if `base` was opened so.
std::unique_ptr<AdaptedModel> load_frozen_model(const Communicator& comm, const ModelConfig& config,
                                                const HfModel& base, const std::string& adapter_directory,
                                                at::ScalarType dtype);

}  // namespace plumb
