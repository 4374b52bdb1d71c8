// The operations of one micro-batch in order and where in the node's memory each buffer lies, worked out before the
// first step: nothing in a step allocates a unit. Buffers whose lifetimes overlap do not overlap in memory.
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

/// A gather or a reduce-scatter: of which unit, and where its buffer lies (from the start of the slots, or of a rank's
/// gradient area).
struct UnitOperation {
  int unit;
  Buffer buffer;
  bool is_in_place = false;  // no buffer, only its size counts: see InPlace
};

/// What a world of one rank need not copy. Nothing by default.
struct InPlace {
  /// float32 units are read where they are sharded; bfloat16 ones have a slot each, and are converted once a step.
  bool parameters = false;
  /// Gradients of blocks in float32 and of an embedding by itself are added to the accumulators at once, where no order
  /// of sums was promised or there is nothing to add.
  bool gradients = false;
};
InPlace in_place(int num_ranks, int64_t accumulation_steps, Reduction reduction);

struct BufferPlan {
  std::vector<UnitOperation> gathers;  // embedding, blocks up, head; blocks down
  std::vector<UnitOperation> reduces;  // head (unless tied), blocks down, embedding
  int num_forward_gathers = 0;         // the first so many; an evaluation stops after them
  int64_t slot_bytes = 0;              // of all slots: once per node
  int64_t gradient_bytes = 0;          // of all gradient buffers: per rank
};

/// units in forward order; tied: the first is embedding and head. element_bytes: 4 or 2, of slots and block gradients;
/// the gradients of vocabulary matrices are float32.
BufferPlan plan_buffers(const std::vector<ShardLayout>& units, bool is_tied, int64_t element_bytes,
                        const InPlace& in_place = {});

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
