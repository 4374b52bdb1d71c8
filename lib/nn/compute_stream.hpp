// The stream of LibTorch's own work on the current device, on which plumb's kernels run between its products: its
// allocator reuses memory in the order of this stream.
#pragma once

#include <cuda_runtime.h>

namespace plumb {

cudaStream_t compute_stream();

}  // namespace plumb
