// The table of ExpertOps for CUDA tensors, and what it shares with that of the CPU.
#pragma once

#include "lib/nn/expert_ops.hpp"

namespace plumb {

/// Throws std::logic_error in a build without CUDA.
const ExpertOps& cuda_expert_ops();

/// Fills what Routing has by expert from what it has by token.
void group_by_expert(int64_t num_experts, int64_t num_chosen, Routing& routing);

}  // namespace plumb
