// In place of every function for CUDA tensors in a build without CUDA.
#pragma once

#include <stdexcept>

namespace plumb {

[[noreturn]] inline void throw_no_cuda() { throw std::logic_error("this build has CPU kernels only"); }

}  // namespace plumb
