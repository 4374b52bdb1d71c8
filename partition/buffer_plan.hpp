// The operations of one micro-batch in order and where in the node's memory each buffer lies, worked out before the
// first step: nothing in a step allocates a unit. Buffers whose lifetimes overlap do not overlap in memory.
#pragma once

#include <cstdint>
#include <vector>

#include "partition/shard_layout.hpp"

namespace plumb {

struct Buffer {
  int64_t offset_bytes;
  int64_t bytes;
};

/// A gather or a reduce-scatter: of which unit, and where its buffer lies (from the start of the slots, or of a rank's
/// gradient area).
struct UnitOperation {
  int unit;
  Buffer buffer;
};

struct BufferPlan {
  std::vector<UnitOperation> gathers;  // embedding, blocks up, head; blocks down
  std::vector<UnitOperation> reduces;  // head (unless tied), blocks down, embedding
  int num_forward_gathers;             // the first so many; an evaluation stops after them
  int64_t slot_bytes;                  // of all slots: once per node
  int64_t gradient_bytes;              // of all gradient buffers: per rank
};

/// units in forward order; tied: the first is embedding and head. element_bytes: 4 or 2, of slots and block gradients;
/// the gradients of vocabulary matrices are float32.
BufferPlan plan_buffers(const std::vector<ShardLayout>& units, bool is_tied, int64_t element_bytes);

/// Offsets for buffers with lifetimes [first, last] (inclusive), the largest placed first, each at the lowest offset
/// that is free throughout; returns the total.
struct TimedBuffer {
  int64_t bytes;
  int64_t first;
  int64_t last;
  int64_t offset_bytes = 0;
};
int64_t place_buffers(std::vector<TimedBuffer>& buffers);

}  // namespace plumb
