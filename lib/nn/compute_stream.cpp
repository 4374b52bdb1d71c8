#include "lib/nn/compute_stream.hpp"

#include <c10/cuda/CUDAStream.h>

namespace plumb {

cudaStream_t compute_stream() { return c10::cuda::getCurrentCUDAStream(); }

}  // namespace plumb
