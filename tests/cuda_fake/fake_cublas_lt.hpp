// The fake cuBLASLt, as a test sees it and makes it fail. It multiplies by plain loops in double, and reports to
// fake.hpp whatever the real library would refuse or leave undefined: descriptions that do not fit, pointers less
// aligned than described, an algorithm of another shape, too small a workspace, reductions whose bits depend on the
// run.
#pragma once

#include <cublasLt.h>

#include <cstdint>

namespace plumb::fake {

struct CublasLtState {
  int64_t num_heuristics = 0, num_products = 0;
  bool finds_nothing = false;                               // heuristics have no result
  cublasStatus_t heuristic_status = CUBLAS_STATUS_SUCCESS;  // of the result
  cublasStatus_t product_status = CUBLAS_STATUS_SUCCESS;
};
CublasLtState& cublas_lt();

}  // namespace plumb::fake
