// The gathers and reduce-scatters of one micro-batch in order, and the offset of each of their buffers in the node's
// memory. Both are computed before the first step, so that a step allocates no unit. Buffers whose lifetimes overlap do
// not overlap in memory.
#pragma once

#include <cstdint>
#include <vector>

#include "partition/canonical_sum.hpp"
#include "partition/shard_layout.hpp"

namespace plumb {

struct Buffer {
  int64_t offset_bytes;
  int64_t bytes;
};

/// A gather or reduce-scatter of one unit. The buffer's offset counts from the start of the gather buffers, or from the
/// start of a rank's gradient buffers.
struct UnitOperation {
  int unit;
  Buffer buffer;
  bool is_in_place = false;  // true: no buffer, buffer.bytes is only the size on the wire; see InPlace
  /// The matrix of an untied embedding, most rows of whose gradient are zero, else 0. After the gradient the buffer has
  /// a flag for each row: whether it is written at all.
  int64_t num_rows = 0, row_elements = 0;
};

/// Copies that a single rank can avoid. By default none is avoided.
struct InPlace {
  /// float32 units are read directly from the shards. bfloat16 units have one gather buffer each and are converted once
  /// per step.
  bool parameters = false;
  /// Float32 gradients of blocks, and of an embedding that is not tied, are added directly to the accumulators. Only if
  /// the order of summation is free (fast reduction) or there is a single summand.
  bool gradients = false;
};
InPlace in_place(int num_ranks, int64_t accumulation_steps, Reduction reduction);

struct BufferPlan {
  std::vector<UnitOperation> gathers;  // embedding, blocks in order, head; then blocks in reverse
  std::vector<UnitOperation> reduces;  // head (unless tied), blocks in reverse, embedding
  int num_forward_gathers = 0;         // number of gathers of the forward pass; an evaluation stops after them
  int64_t gather_buffer_bytes = 0;     // all gather buffers, per node
  int64_t gradient_bytes = 0;          // all gradient buffers, per rank
};

/// units: in forward order. is_tied: the first unit is both embedding and head. element_bytes: 4 or 2, the element size
/// of gather buffers and of block gradients; gradients of vocabulary matrices are always float32.
BufferPlan plan_buffers(const std::vector<ShardLayout>& units, bool is_tied, int64_t element_bytes,
                        const InPlace& in_place = {});

/// Where gradients are sent in slices to the ranks that add them: the most that is on the wire at a time, and the
/// size of the buffer that receives it.
inline constexpr int64_t kMaxReceiveBytes = int64_t{256} << 20;
/// Elements of a shard that are exchanged at a time, a multiple of kShardAlignment, so that the slices from all ranks
/// fit into max_receive_bytes.
int64_t piece_elements(int64_t shard_elements, int64_t element_bytes, int num_ranks,
                       int64_t max_receive_bytes = kMaxReceiveBytes);

/// A buffer that is in use during operations [first, last], both inclusive.
struct TimedBuffer {
  int64_t bytes;
  int64_t first;
  int64_t last;
  int64_t offset_bytes = 0;
};
/// Sets the offsets: largest buffer first, each at the lowest offset that is free during its whole lifetime. Returns
/// the total size in bytes.
int64_t place_buffers(std::vector<TimedBuffer>& buffers);

}  // namespace plumb
