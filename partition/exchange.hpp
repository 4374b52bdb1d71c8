// Gather and reduce-scatter of whole units, each split into start and finish, so that one unit is exchanged while
// another computes. NodeExchange implements them with shared memory and MPI; for GPUs, NcclExchange with streams and
// NCCL, and HostExchange with copies around a NodeExchange.
// Source: ZeRO stage 3, arXiv:1910.02054.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "partition/buffer_plan.hpp"

namespace plumb {

class Communicator;

struct ExchangeOptions {
  at::ScalarType dtype = at::kFloat;  // gather buffers and gradients of blocks
  int64_t accumulation_steps = 1;
  Reduction reduction = Reduction::kCanonical;
  bool keeps_converted = false;  // converted parameters are reused until forget_converted()
};

/// A started operation, as passed to an observer.
struct CollectiveRecord {
  enum class Kind { kGather, kReduceScatter } kind;
  int unit;
  int64_t bytes;  // whole padded unit, on the wire
};

class Exchange {
 public:
  virtual ~Exchange() = default;

  // Gathers. `gather` is an index into plan().gathers. They are started in order, at most one ahead of the one in use,
  // and released in order.

  /// Collective: converts this rank's master shard into its part of the gather buffer and returns without waiting for
  /// the other shards. If the gather is in place, it only records the shard's address or reuses what was converted
  /// before.
  virtual void start_gather(int gather, std::span<const float> master_shard) = 0;
  /// The same for units of bytes (dtype kByte), which are copied without conversion.
  virtual void start_gather(int gather, std::span<const std::byte> shard) = 0;
  /// Collective: waits for all shards. Returns the padded unit as a flat tensor, valid until release_gather().
  virtual at::Tensor finish_gather(int gather) = 0;
  /// Local: this rank no longer reads the oldest gathered unit.
  virtual void release_gather() = 0;
  /// Local: must be called whenever the master shards have changed.
  virtual void forget_converted() = 0;

  // Reduce-scatters. `reduce` is an index into plan().reduces. They are started in order, and each is finished after
  // the next one has started.

  /// The flat padded buffer for a unit's gradient, with gaps already zero. float32 for vocabulary units, else the dtype
  /// of the activations. Waits until the node's ranks have read what the buffer held before.
  virtual at::Tensor gradient_buffer(int reduce) = 0;
  /// The same for the gradient of an embedding: only `rows` are not zero. They are set to zero here.
  virtual at::Tensor gradient_rows(int reduce, std::span<const int64_t> rows) {
    static_cast<void>(rows);
    return gradient_buffer(reduce).zero_();
  }
  /// Local: where this gradient may be written in place of gradient_buffer(), so that it is not copied; null: nowhere.
  /// may_add: it is a single product, which is rounded once.
  virtual std::optional<LeafInLevel> gradient_in_level(int reduce, int64_t accumulation, size_t num_levels,
                                                       bool may_add) {
    static_cast<void>(reduce), static_cast<void>(accumulation), static_cast<void>(num_levels);
    static_cast<void>(may_add);
    return std::nullopt;
  }
  /// Collective: this rank's gradient is complete. The gradients of all ranks for this rank's shard are added to
  /// `levels`, as the leaves of this accumulation step. `levels` must stay valid until finish_reduce().
  virtual void start_reduce(int reduce, int64_t accumulation, std::span<float* const> levels) = 0;
  /// Collective: after that of the plan's last reduce, all sums of this accumulation step may be read.
  virtual void finish_reduce(int reduce) = 0;

  const BufferPlan& plan() const { return plan_; }
  /// True if there is no gradient buffer: the gradient is added directly to the accumulator before start_reduce().
  bool is_reduced_in_place(int reduce) const { return plan_.reduces[reduce].is_in_place; }
  /// Local: the observer is called with each operation when it starts.
  void observe(std::function<void(const CollectiveRecord&)> observer) { observer_ = std::move(observer); }

 protected:
  explicit Exchange(BufferPlan plan) : plan_(std::move(plan)) {}
  void notify(CollectiveRecord::Kind kind, const UnitOperation& operation) const {
    if (observer_) observer_({kind, operation.unit, operation.buffer.bytes});
  }

 private:
  BufferPlan plan_;
  std::function<void(const CollectiveRecord&)> observer_;
};

/// Collective: makes the exchange of a model. comm and units must outlive it.
using MakeExchange = std::function<std::unique_ptr<Exchange>(
    const Communicator& comm, const std::vector<ShardLayout>& units, BufferPlan plan, const ExchangeOptions& options)>;
/// The exchange of CPUs, a NodeExchange.
std::unique_ptr<Exchange> make_node_exchange(const Communicator& comm, const std::vector<ShardLayout>& units,
                                             BufferPlan plan, const ExchangeOptions& options);

}  // namespace plumb
