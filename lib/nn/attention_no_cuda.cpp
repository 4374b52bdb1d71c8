#include "lib/nn/attention_cuda.hpp"
#include "lib/nn/no_cuda.hpp"

namespace plumb {

void attention_forward_cuda(const AttentionShape&, const at::Tensor&, const Documents&, const at::Tensor&,
                            AttentionActivations&) {
  throw_no_cuda();
}
void attention_backward_cuda(const AttentionShape&, const at::Tensor&, const Documents&, const AttentionActivations&,
                             const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  throw_no_cuda();
}

}  // namespace plumb
