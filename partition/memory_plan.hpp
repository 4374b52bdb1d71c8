// The memory and traffic of a run, computed before it starts: bytes per rank and per node, and bytes on the wire per
// step. Trained parameters take 16 bytes each over all ranks (master, gradient, two moments), plus gather buffers,
// gradient buffers and activations; with an adapter, also the frozen base.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lib/model/lora.hpp"
#include "partition/buffer_plan.hpp"
#include "partition/canonical_sum.hpp"
#include "partition/frozen_base.hpp"

namespace plumb {

/// The needs of a stage that trains on completions of its own model.
struct PlannedRollouts {
  int64_t decoded_rows = 0;  // of a rank in a round; 0: rollouts are recorded
  int64_t row_tokens = 0;    // upper limit of a prompt with its completion
  bool has_reference = false;
  bool has_frozen_reference = false;  // of an adapter: a model beside it, not its base alone
  int64_t reward_model_bytes = 0;     // files of the reward models
};

struct PlanInput {
  ModelConfig config;
  int num_ranks = 1;
  int ranks_per_node = 1;
  int num_threads = 1;        // per rank
  int64_t element_bytes = 4;  // gather buffers and activations: 4 or 2
  int64_t accumulation_steps = 1;
  int64_t micro_batch_tokens = 0;  // upper limit
  bool has_gradient_checkpointing = true;
  Reduction reduction = Reduction::kCanonical;
  bool has_8bit_moments = false;
  bool has_async_save = false;
  std::optional<Adapter> adapter = std::nullopt;  // the adapter is trained, the model is frozen
  /// With an adapter: the NF4 format of each matrix of the base. nested_nf4 quantizes all; nullptr none.
  std::function<std::optional<Nf4Format>(const Parameter&)> nf4_format = nullptr;
  std::optional<PlannedRollouts> rollouts = std::nullopt;
  int64_t program_bytes = 0;  // per rank before the first allocation: code, MPI, LibTorch
};

struct MemoryPlan {
  int64_t num_parameters = 0;  // of the model and the adapter
  int64_t num_trained_parameters = 0;
  // Bytes per rank.
  int64_t program_bytes = 0;
  int64_t parameter_bytes = 0;   // trained
  int64_t base_shard_bytes = 0;  // frozen base on several nodes
  int64_t scratch_bytes = 0;     // one dequantized matrix
  int64_t moment_bytes = 0;
  int64_t save_bytes = 0;      // the copy that an asynchronous save writes
  int64_t gradient_bytes = 0;  // this rank's shard, with the open subtrees of canonical sums
  int64_t gradient_buffer_bytes = 0;
  int64_t activation_bytes = 0;
  int64_t head_bytes = 0;             // the loss: one chunk of logits and its buffers
  int64_t exchange_bytes = 0;         // partial sums sent between nodes
  int64_t reference_shard_bytes = 0;  // of the reference model
  int64_t cache_bytes = 0;            // keys and values of the rows that are decoded
  // Bytes per node.
  int64_t gather_buffer_bytes = 0;
  int64_t base_bytes = 0;       // frozen base on one node
  int64_t decoder_bytes = 0;    // the weights that completions are decoded with
  int64_t reference_bytes = 0;  // the reference of an adapter, or buffers of a sharded one
  int64_t reward_model_bytes = 0;
  // Gathers and reduce-scatters per step, and their bytes on the wire.
  int64_t gathers_per_step = 0;
  int64_t reduces_per_step = 0;
  int64_t gather_bytes_per_step = 0;
  int64_t reduce_bytes_per_step = 0;

  /// Bytes of one rank, without what it shares.
  int64_t rank_bytes() const;
  /// Bytes that the ranks of a node share.
  int64_t node_bytes() const {
    return gather_buffer_bytes + base_bytes + decoder_bytes + reference_bytes + reward_model_bytes;
  }
  /// Bytes of these that a node's ranks, if there are several, keep in /dev/shm, with MPI's own.
  int64_t shared_bytes(int ranks_per_node) const;
  /// Bytes on all ranks and nodes.
  int64_t total_bytes(int num_ranks, int ranks_per_node) const;
};

/// Local: allocates nothing and calls no MPI.
MemoryPlan plan_memory(const PlanInput& input);

/// The plan as a human-readable table.
std::string render_plan(const PlanInput& input, const MemoryPlan& plan);

/// Throws UsageError, with the options that reduce memory, if the plan does not fit into available_bytes on this node.
/// 0 means unknown and always fits.
void check_fits(const PlanInput& input, const MemoryPlan& plan, int64_t available_bytes);

}  // namespace plumb
