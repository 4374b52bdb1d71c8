// Gather and reduce-scatter of whole units, in two halves each, so that the exchange of one unit is under way while
// another computes. Within a node they are copies into and reads from shared memory; between nodes equal local ranks
// exchange slices over MPI. Every operation is counted. Source: ZeRO stage 3, arXiv:1910.02054; the order of sums is
// canonical_sum.hpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "partition/buffer_plan.hpp"
#include "partition/canonical_sum.hpp"
#include "partition/communicator.hpp"
#include "partition/node_memory.hpp"

namespace plumb {

struct CollectiveRecord {
  enum class Kind { kGather, kReduceScatter } kind;
  int unit;
  int64_t bytes;  // of the whole padded unit on the wire
  int64_t sequence;
};

class UnitExchange {
 public:
  /// Collective. dtype: of slots and block gradients. keeps_converted: of InPlace::parameters. All references must
  /// outlive this object.
  UnitExchange(const Communicator& comm, const std::vector<ShardLayout>& units, BufferPlan plan, at::ScalarType dtype,
               int64_t accumulation_steps, Reduction reduction, bool keeps_converted = false);

  // Gathers: index into plan.gathers. Started in order, at most one ahead of the one in use, and released in order.

  /// Puts this rank's master shard, converted, into the slot; returns without waiting for the others' shards. In place:
  /// only notes where it is, or leaves what was converted before.
  void start_gather(int gather, std::span<const float> master_shard);
  /// The same for units of bytes (dtype kByte), which are not converted.
  void start_gather(int gather, std::span<const std::byte> shard);
  /// Waits for all shards. The padded unit, flat, valid until release_gather().
  at::Tensor finish_gather(int gather);
  void release_gather();
  /// To be called whenever the master shards have changed, where parameters are in place.
  void forget_converted() { is_converted_.assign(units_.size(), false); }

  // Reduce-scatters: index into plan.reduces. Started in order; the one before is finished after the next is started.

  /// True where no buffer is: the gradient is to be added to the accumulator itself, before start_reduce().
  bool is_reduced_in_place(int reduce) const { return plan_.reduces[reduce].is_in_place; }
  /// The flat padded buffer to write a unit's gradient into, gaps already zero: float32 for vocabulary units.
  at::Tensor gradient_buffer(int reduce);
  void start_reduce(int reduce);
  /// Adds all ranks' gradients for this rank's shard as leaves of accumulation step `accumulation` onto `levels`.
  void finish_reduce(int reduce, int64_t accumulation, std::span<float* const> levels);

  const BufferPlan& plan() const { return plan_; }
  /// Every operation since the last call, in the order of starting.
  std::vector<CollectiveRecord> take_records();

 private:
  struct LeafGroup {  // an aligned subtree of leaves that lie on one node
    int64_t num_leaves;
    int first_local;
  };
  std::vector<LeafGroup> leaf_groups(int node, int64_t accumulation) const;
  std::span<std::byte> slot_part(int gather, int rank) const;
  void wait_for_slot(int gather);
  void post_gather(int gather);
  std::byte* gradient_area(int local_index) const;
  at::Tensor tensor_at(std::byte* data, int64_t elements, at::ScalarType dtype) const;
  at::ScalarType gradient_dtype(const UnitOperation& operation) const;
  void record(CollectiveRecord::Kind kind, const UnitOperation& operation);
  void for_each_remote_of_mine(const std::function<void(int rank)>& body) const;
  int helper_on(int node, int rank) const;

  const Communicator& comm_;
  const std::vector<ShardLayout>& units_;
  BufferPlan plan_;
  at::ScalarType dtype_;
  int64_t accumulation_steps_;
  Reduction reduction_;
  bool keeps_converted_;
  NodeMemory memory_;
  std::deque<MessageBatch> gather_messages_;  // of gathers that are started and not finished
  std::vector<std::vector<float>> outgoing_;  // sums for remote ranks, one buffer each
  std::vector<std::vector<float>> incoming_;  // sums from other nodes, one buffer each
  std::vector<CollectiveRecord> records_;
  int64_t sequence_ = 0;
  // of parameters in place, by unit
  std::vector<const float*> masters_;
  std::vector<bool> is_converted_;
};

}  // namespace plumb
