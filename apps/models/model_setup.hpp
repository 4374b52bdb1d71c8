// What every command that runs a model does first: threads, memory settings, weights into shards.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "apps/options/options.hpp"
#include "io/file/atomic_directory.hpp"
#include "io/huggingface/export_files.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/nf4_export.hpp"
#include "io/huggingface/peft_config.hpp"
#include "partition/sharded_model.hpp"

namespace plumb {

/// Lets LibTorch use as many threads as asked, or with 0 the cores of the node divided by its ranks; fewer where OpenMP
/// gives fewer (OMP_THREAD_LIMIT). Returns how many.
int use_threads(int threads, int ranks_of_node);

/// use_threads() for this rank. Also keeps freed memory mapped, since the page faults of fresh tensors cost more than
/// the memory.
int set_up_process(const Communicator& comm, int threads);

/// Gives the system back what set_up_process() would keep: after a model that is not needed any more.
void release_freed_memory();

/// Runs the kinds of products that a step has once, so that what LibTorch and its libraries load and keep is there when
/// the program's own memory is measured for the plan.
void warm_up_libraries();

at::ScalarType scalar_type(Precision precision);

/// A model as it is run, without being trained.
struct ModelSource {
  std::string model;          // directory
  std::string adapter = {};   // directory of a PEFT adapter that is merged when weights are read; "": none
  bool is_quantized = false;  // matrices of blocks become NF4 when they are read, before an adapter is merged

  HfModelOptions options(HeadKind head) const { return {.head = head, .quantizes = is_quantized, .adapter = adapter}; }
};

/// The token that pads texts: the tokenizer's own, else the one that ends them, as TRL has it; -1: none. Throws as
/// load_tokenizer().
int32_t padding_id(const std::string& model_directory);

/// Collective: each rank reads its own bytes. An error on one rank is thrown by all.
void load_weights(const Communicator& comm, ShardedModel& model, const HfModel& source);

/// Collective: rank 0 makes a directory with these files, all write their parts into it, rank 0 finishes it and gives
/// it its name; on an error nothing of it stays.
void export_by_all(const Communicator& comm, std::span<const ExportFile> files, const std::string& directory,
                   ExistingDirectory existing, const std::function<void(const std::string& temporary)>& write,
                   const std::function<void(const std::string& temporary)>& finish);

/// Collective: writes a Hugging Face directory from the shards, complete or not at all.
void export_model(const Communicator& comm, ShardedModel& model, const std::string& directory,
                  const std::string& source_directory, Precision precision);

/// Collective: the same of a model as it is read, dequantized and with its adapter, a piece at a time. config: of what
/// is written.
void export_as_read(const Communicator& comm, const HfModel& model, ModelConfig config, const std::string& directory,
                    Precision precision);

/// Collective: a model that is NF4 once it is read, as a directory of NF4; each rank makes its share of the matrices.
/// Returns what was written.
Nf4ExportPlan export_quantized(const Communicator& comm, const HfModel& model, const std::string& directory,
                               ExistingDirectory existing);

/// Collective: writes a PEFT adapter directory from the shards of the unit "adapter", complete or not at all.
void export_adapter(const Communicator& comm, const ShardLayout& unit, std::span<const float> shard,
                    const std::string& directory, const LoraConfig& config);

}  // namespace plumb
