// Set-up of a process that runs a model (threads, memory settings), loading weights into shards, and exports.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "apps/options/options.hpp"
#include "io/file/atomic_directory.hpp"
#include "io/huggingface/export_files.hpp"
#include "io/huggingface/exported_text.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/nf4_export.hpp"
#include "io/huggingface/peft_config.hpp"
#include "partition/sharded_model.hpp"

namespace plumb {

/// Sets the number of LibTorch's threads. Returns the number that OpenMP provides, which may be lower
/// (OMP_THREAD_LIMIT).
int use_threads(int threads);

/// Collective: use_threads() with the number of choose_threads(). Also keeps freed memory mapped, because the page
/// faults of new tensors cost more than the memory.
int set_up_process(const Communicator& comm, int threads);

/// Returns freed memory, which set_up_process() keeps mapped, to the system. For use after a model is destroyed.
void release_freed_memory();

/// Runs the kinds of matmuls of a step once, so that LibTorch and its libraries have loaded and allocated what they
/// keep before the program's own memory is measured for the plan.
void warm_up_libraries();

at::ScalarType scalar_type(Precision precision);

/// A model for inference.
struct ModelSource {
  std::string model;           // directory
  std::string adapter = {};    // PEFT adapter directory, merged when weights are read; "": none
  bool is_quantized = false;   // block matrices are quantized to NF4 when read, before the adapter is merged
  std::string eos_token = {};  // "": the tokenizer's own
  TokenizerBehavior tokenizer_behavior = TokenizerBehavior::kTransformers5;

  HfModelOptions options(HeadKind head) const { return {.head = head, .quantizes = is_quantized, .adapter = adapter}; }
  TokenizerSource tokenizer() const { return {model, adapter, eos_token, tokenizer_behavior}; }
};

/// The tokenizer's padding token, else its EOS token, as in TRL; -1: neither. Throws as load_tokenizer().
int32_t padding_id(const TokenizerSource& source);

/// Collective: each rank reads its own shard. All ranks throw AgreedError if one fails.
void load_weights(const Communicator& comm, ShardedModel& model, const HfModel& source);

/// Collective: rank 0 creates a temporary directory with these files, all ranks write their parts, rank 0 finishes it
/// and renames it into place. On an error the temporary directory is removed.
void export_by_all(const Communicator& comm, std::span<const ExportFile> files, const std::string& directory,
                   ExistingDirectory existing, const std::function<void(const std::string& temporary)>& write,
                   const std::function<void(const std::string& temporary)>& finish);

/// Bytes of the weights that export_model() and export_as_read(), or export_adapter(), write.
int64_t exported_bytes(const std::vector<UnitLayout>& model, Precision precision);
int64_t exported_adapter_bytes(const UnitLayout& unit, const ModelConfig& base);

/// Collective: writes a Hugging Face directory from the shards, complete or not at all.
void export_model(const Communicator& comm, ShardedModel& model, const std::string& directory, const ExportedText& text,
                  Precision precision);

/// Collective: the same for a model in files, dequantized and with its adapter merged, in chunks. config: of
/// the exported model.
void export_as_read(const Communicator& comm, const HfModel& model, ModelConfig config, const std::string& directory,
                    const ExportedText& text, Precision precision);

/// Collective: writes a model that was opened as quantized as an NF4 directory; each rank quantizes its share of the
/// matrices.
Nf4ExportPlan export_quantized(const Communicator& comm, const HfModel& model, const std::string& directory,
                               ExistingDirectory existing);

/// Collective: writes a PEFT adapter directory from the shards of the unit "adapter", complete or not at all. base: the
/// model under it.
void export_adapter(const Communicator& comm, const ShardLayout& unit, std::span<const float> shard,
                    const std::string& directory, const LoraConfig& config, const ModelConfig& base,
                    const ExportedText& text);

}  // namespace plumb
