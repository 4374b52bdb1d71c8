// Runs grids of CUDA threads on the CPU (cuda_runtime.h here). Blocks run one after the other, the threads of a block
// as fibers that give way at barriers and shuffles. Plainly, blocks and threads run in order; with a seed, in a random
// order, which a correct kernel's results do not show. Shared memory is overwritten before each block.
//
// These faults end the process, with what was found and where: a barrier or shuffle that not all threads of the block
// or warp reach, and a write past the end of dynamic shared memory. ThreadSanitizer sees each thread as a thread of its
// own that only barriers order, so that it reports a missing one with its line; AddressSanitizer and
// UndefinedBehaviorSanitizer see every index.
#pragma once

#include <cstdint>

#include "cuda_runtime.h"

namespace cuda_on_cpu {

/// 0: in order.
void set_schedule(uint64_t seed);

}  // namespace cuda_on_cpu
