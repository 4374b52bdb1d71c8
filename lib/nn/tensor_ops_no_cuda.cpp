#include "lib/nn/expert_ops_cuda.hpp"
#include "lib/nn/no_cuda.hpp"
#include "lib/nn/tensor_ops_cuda.hpp"

namespace plumb {

const TensorOps& cuda_ops() { throw_no_cuda(); }
const ExpertOps& cuda_expert_ops() { throw_no_cuda(); }

}  // namespace plumb
