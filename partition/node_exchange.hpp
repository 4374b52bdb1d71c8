// Exchange of units on CPUs. Within a node ranks copy into and read from shared memory; between nodes, ranks of equal
// local index exchange slices over MPI. The order of sums is that of canonical_sum.hpp.
// Source: ZeRO stage 3, arXiv:1910.02054.
#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "partition/canonical_sum.hpp"
#include "partition/communicator.hpp"
#include "partition/exchange.hpp"
#include "partition/node_memory.hpp"

namespace plumb {

class NodeExchange : public Exchange {
 public:
  /// Collective. comm and units must outlive this object.
  NodeExchange(const Communicator& comm, const std::vector<ShardLayout>& units, BufferPlan plan,
               const ExchangeOptions& options);

  void start_gather(int gather, std::span<const float> master_shard) override;
  void start_gather(int gather, std::span<const std::byte> shard) override;
  at::Tensor finish_gather(int gather) override;
  void release_gather() override;
  void forget_converted() override { is_converted_.assign(units_.size(), false); }

  at::Tensor gradient_buffer(int reduce) override;
  at::Tensor gradient_rows(int reduce, std::span<const int64_t> rows) override;
  std::optional<LeafInLevel> gradient_in_level(int reduce, int64_t accumulation, size_t num_levels,
                                               bool may_add) override;
  void start_reduce(int reduce, int64_t accumulation, std::span<float* const> levels) override;
  void finish_reduce(int reduce) override;

 private:
  struct StartedReduce {
    int64_t accumulation;
    std::span<float* const> levels;
  };
  struct LeafGroup {  // an aligned subtree of leaves of one node
    int64_t num_leaves;
    int first_local;
  };
  std::vector<LeafGroup> leaf_groups(int node, int64_t accumulation) const;
  /// The gradient that a rank of this node has for the shard of `owner`.
  Summand leaf(const UnitOperation& operation, int local_index, int owner) const;
  /// This node's sums for the shards of remote ranks go out; those of other nodes for this rank's shard come in.
  void exchange_node_sums(const UnitOperation& operation, int64_t accumulation);
  /// All gradients for this rank's shard, in the order of ranks; of other nodes, their sums.
  std::vector<Summand> summands_of_mine(const UnitOperation& operation, int64_t accumulation) const;
  std::span<std::byte> gather_part(int gather, int rank) const;
  void wait_for_buffer(int gather);
  void post_gather(int gather);
  std::byte* gradient_area(int local_index) const;
  at::Tensor tensor_at(std::byte* data, int64_t elements, at::ScalarType dtype) const;
  /// For each row of a gradient of rows, whether the rank has written it.
  uint8_t* row_flags(const UnitOperation& operation, int local_index) const;
  /// Adds summands for the shard of `owner` to the levels; with `level_has_row` as push_rows() does.
  void push(const UnitOperation& operation, int owner, std::span<float* const> levels,
            std::span<std::vector<uint8_t>> level_has_row, int64_t leaves_before, std::span<const Summand> summands,
            bool is_last) const;
  at::ScalarType gradient_dtype(const UnitOperation& operation) const;
  void for_each_assigned_remote(const std::function<void(int rank)>& body) const;
  int helper_on(int node, int rank) const;

  const Communicator& comm_;
  const std::vector<ShardLayout>& units_;
  ExchangeOptions options_;
  NodeMemory memory_;
  std::deque<MessageBatch> gather_messages_;                  // started, not yet finished
  std::deque<StartedReduce> started_reduces_;                 // not yet finished
  std::vector<std::vector<uint8_t>> level_has_row_;           // push_rows() of the embedding
  std::vector<std::optional<LeafInLevel>> written_in_level_;  // by reduce, in place of the buffer
  std::vector<std::vector<float>> outgoing_;                  // by rank: partial sums for the shard of a remote one
  std::vector<std::vector<float>> incoming_;                  // by node: its partial sums for this rank's shard
  // By unit: address of the master shard, and whether the gather buffer holds its converted values.
  std::vector<const float*> masters_;
  std::vector<bool> is_converted_;
};

}  // namespace plumb
