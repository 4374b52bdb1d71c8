// Gather and reduce-scatter of whole units, in two halves each, so that the exchange of one unit is under way while
// another computes. NodeExchange implements it in shared memory and MPI. Source: ZeRO stage 3, arXiv:1910.02054.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "partition/buffer_plan.hpp"

namespace plumb {

/// An operation that was started, as an observer sees it.
struct CollectiveRecord {
  enum class Kind { kGather, kReduceScatter } kind;
  int unit;
  int64_t bytes;  // of the whole padded unit on the wire
};

class Exchange {
 public:
  virtual ~Exchange() = default;

  // Gathers: index into plan().gathers. Started in order, at most one ahead of the one in use, and released in order.

  /// Puts this rank's master shard, converted, into its gather buffer; returns without waiting for the other shards. In
  /// place: only notes where the shard is, or keeps what was converted before.
  virtual void start_gather(int gather, std::span<const float> master_shard) = 0;
  /// The same for units of bytes (dtype kByte), which are not converted.
  virtual void start_gather(int gather, std::span<const std::byte> shard) = 0;
  /// Waits for all shards. The padded unit, flat, valid until release_gather().
  virtual at::Tensor finish_gather(int gather) = 0;
  virtual void release_gather() = 0;
  /// To be called whenever the master shards have changed.
  virtual void forget_converted() = 0;

  // Reduce-scatters: index into plan().reduces. Started in order; each is finished after the next one is started.

  /// The flat padded buffer to write a unit's gradient into, gaps already zero: float32 for vocabulary units.
  virtual at::Tensor gradient_buffer(int reduce) = 0;
  virtual void start_reduce(int reduce) = 0;
  /// Adds the gradients of all ranks for this rank's shard as leaves of accumulation step `accumulation` onto `levels`.
  virtual void finish_reduce(int reduce, int64_t accumulation, std::span<float* const> levels) = 0;

  const BufferPlan& plan() const { return plan_; }
  /// True where no buffer is: the gradient is added to the accumulator itself, before start_reduce().
  bool is_reduced_in_place(int reduce) const { return plan_.reduces[reduce].is_in_place; }
  /// Called with each operation when it is started.
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

}  // namespace plumb
