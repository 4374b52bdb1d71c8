// Completions computed by all ranks: a language model for decoding whose weights exist once per node, and prompts that
// are divided among the ranks. An adapter that is trained is not merged: its base and it are read where they are. The
// bits of a completion do not depend on those beside it, nor on the number of ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/models/model_setup.hpp"
#include "apps/models/trained_model.hpp"
#include "io/huggingface/hf_model.hpp"
#include "lib/nn/decode.hpp"
#include "partition/communicator.hpp"
#include "partition/node_memory.hpp"

namespace plumb {

/// A decoder whose weights the ranks of a node share; each rank decodes its own batches.
class SharedDecoder {
 public:
  /// For a language model whose weights come later, by read() or copy().
  SharedDecoder(const Communicator& comm, const ModelConfig& config, at::ScalarType dtype);
  /// Collective: with the weights of a model in files. Throws AgreedError.
  SharedDecoder(const Communicator& comm, const ModelSource& source, at::ScalarType dtype);

  /// Collective: replaces the weights by those in files, of which each rank of a node reads its part. Throws
  /// AgreedError.
  void read(const ModelSource& source);
  /// Collective: replaces the weights by those of a model that is trained, as they are now. That of an adapter must
  /// outlive the decoding.
  void copy(const TrainedModel& model);

  Decoder& decoder() { return *decoder_; }
  const ModelConfig& config() const { return config_; }

 private:
  /// Room for the weights of the model, once.
  void allocate();
  void read(const HfModel& source);
  /// This rank's part of a unit of the node's copy.
  ElementRange part_of(const UnitLayout& unit) const;

  const Communicator& comm_;
  ModelConfig config_;
  at::ScalarType dtype_;
  std::vector<UnitLayout> layouts_;
  std::vector<at::Tensor> units_;
  std::optional<NodeMemory> memory_;
  std::optional<Decoder> decoder_;
};

/// Token ids of one completion, without the final stop id unless GenerateOptions::keeps_end.
using Completion = std::vector<int32_t>;

/// Collective: num_generations completions of each prompt, [prompt][generation], the same on every rank. `prompts` are
/// the same on all ranks; random numbers depend on (seed, prompt, generation, position). Throws AgreedError.
std::vector<std::vector<Completion>> sample_completions(const Communicator& comm, Decoder& decoder,
                                                        const std::vector<std::vector<int32_t>>& prompts,
                                                        int64_t num_generations, const GenerateOptions& options);

}  // namespace plumb
