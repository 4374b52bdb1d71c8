// Exchange of units on GPUs, one per rank, over NCCL. What NodeExchange waits for on the host is ordered here by events
// between three streams: `compute` of the caller, `wire` for NCCL, and `sums` for the additions. The canonical sum
// sends slices of gradients to their owners, which add them in the order of canonical_sum.hpp, with the bits of the
// CPU's. The fast one is NCCL's own, in an order of its own. Source: ZeRO stage 3, arXiv:1910.02054.
#pragma once

#include <ATen/core/Tensor.h>
#include <cuda_runtime_api.h>

#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "lib/device/events.hpp"
#include "lib/device/memory.hpp"
#include "partition/communicator.hpp"
#include "partition/device_buffers.hpp"
#include "partition/exchange.hpp"
#include "partition/nccl_communicator.hpp"

namespace plumb {

class NcclExchange : public Exchange {
 public:
  /// Collective. comm and units must outlive this object; master shards and levels are device memory. Throws
  /// AgreedError where NCCL does not start or memory is short.
  NcclExchange(const Communicator& comm, const std::vector<ShardLayout>& units, BufferPlan plan,
               const ExchangeOptions& options, const ComputeDevice& compute,
               int64_t max_receive_bytes = kMaxReceiveBytes);
  ~NcclExchange() override;

  void start_gather(int gather, std::span<const float> master_shard) override;
  void start_gather(int gather, std::span<const std::byte> shard) override;
  at::Tensor finish_gather(int gather) override;
  void release_gather() override {}  // the next use of the buffer is ordered after this one by the compute stream
  void forget_converted() override { is_converted_.assign(units_.size(), false); }

  at::Tensor gradient_buffer(int reduce) override;
  void start_reduce(int reduce, int64_t accumulation, std::span<float* const> levels) override;
  void finish_reduce(int reduce) override;

 private:
  /// Elements [begin, begin + size) of a shard, and where their leaves are: leaf i begins at i * leaf_stride_bytes.
  struct Piece {
    int64_t begin, size;
    const std::byte* leaves;
    int64_t leaf_stride_bytes;
  };
  /// The arguments of start_reduce().
  struct Reduce {
    const UnitOperation& operation;
    int64_t accumulation;
    std::span<float* const> levels;
  };
  void post_gather(int gather);
  /// The slices of all ranks for this rank's shard come in, piece by piece, and are added in order.
  void reduce_in_order(const Reduce& reduce);
  /// NCCL's own reduce-scatter; the result is one leaf.
  void reduce_fast(const Reduce& reduce);
  void send_slices(const Reduce& reduce, const Piece& piece);
  void add(const Reduce& reduce, const Piece& piece, int64_t num_leaves);
  std::byte* gather_part(int gather, int rank) const;
  std::byte* gradient_data(const UnitOperation& operation) const;
  int64_t gradient_element_bytes(const UnitOperation& reduce) const;
  int64_t shard_bytes(const UnitOperation& operation) const;
  int64_t elements_at_once(const UnitOperation& operation) const;
  void place_receive_buffer();
  int num_scratch_levels() const;

  const Communicator& comm_;
  const std::vector<ShardLayout>& units_;
  ExchangeOptions options_;
  ComputeDevice compute_;
  int64_t max_receive_bytes_;
  int64_t receive_bytes_ = 0;     // of the buffer that slices are received in
  int64_t scratch_elements_ = 0;  // of a level that is open only while a piece is added
  Stream wire_, sums_;
  std::optional<NcclCommunicator> nccl_;  // none in a world of one
  // Gather buffers, gradients, received slices, scratch levels; one of both.
  std::optional<NcclMemory> window_;
  std::optional<DeviceMemory> own_memory_;
  std::byte* data_ = nullptr;

  Event converted_;              // on compute: this rank's part of the gather that starts
  Event ready_;                  // on compute: the gradient that is reduced
  Event received_;               // on wire: the leaves of a piece
  Event summed_;                 // on sums: the last piece
  std::vector<Event> gathered_;  // on wire, by gather
  std::vector<Event> consumed_;  // by reduce: its gradient buffer has been read
  std::deque<int> started_;      // reduces, newest first; each at most once
  int64_t accumulation_ = 0;     // of the newest reduce
  // By unit: address of the master shard, and whether the gather buffer holds its converted values.
  std::vector<const float*> masters_;
  std::vector<bool> is_converted_;
};

}  // namespace plumb
