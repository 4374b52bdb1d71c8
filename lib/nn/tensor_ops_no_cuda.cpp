#include <stdexcept>

#include "lib/nn/expert_ops_cuda.hpp"
#include "lib/nn/tensor_ops_cuda.hpp"

namespace plumb {

namespace {
[[noreturn]] void throw_no_cuda() { throw std::logic_error("this build has CPU kernels only"); }
}  // namespace

const TensorOps& cuda_ops() { throw_no_cuda(); }
const ExpertOps& cuda_expert_ops() { throw_no_cuda(); }

}  // namespace plumb
