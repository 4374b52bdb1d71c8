// Matrix products by cuBLASLt, on pointers, sizes and a stream. The library proposes algorithms for a shape; the first
// is kept and always used, because a search by time would make bits depend on the run. Neither atomics nor the type of
// the output take part in a sum that is divided over the depth, and float32 factors are not shortened to TF32. With
// the same library and GPU the same shape gives the same bits.
// Source: cuBLAS guide, "cuBLASLt" and "Results Reproducibility".
#pragma once

#include <cublasLt.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>

#include "lib/device/memory.hpp"

namespace plumb {

enum class LtType { kFloat, kBFloat16 };

/// A matrix whose rows are contiguous and `stride` elements apart; if it is transposed, its columns are.
struct LtMatrix {
  const void* data = nullptr;
  int64_t stride = 0;
  bool is_transposed = false;
};

/// out = scale * a b + addend + bias. a: [num_rows, depth], b: [depth, num_columns]. Sizes are at least 1.
struct LtProduct {
  int64_t num_rows, num_columns, depth;
  LtMatrix a, b;
  LtType factors;
  float scale;
  LtMatrix addend;   // not transposed, and of out's type; may be out; data null: none
  const void* bias;  // [num_columns], of out's type, or null
  void* out;
  int64_t out_stride;
  LtType out_type;
};

/// All products of a process. They share one workspace, so they must be on one stream.
class CublasLt {
 public:
  CublasLt();
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  /// Enqueues the product. Throws with its shape and the library's status if there is no algorithm for it.
  void multiply(const LtProduct& product, cudaStream_t stream);

 private:
  struct Destroy {
    void operator()(cublasLtMatmulDescOpaque_t* description) const { cublasLtMatmulDescDestroy(description); }
    void operator()(cublasLtMatrixLayoutOpaque_t* layout) const { cublasLtMatrixLayoutDestroy(layout); }
    void operator()(cublasLtMatmulPreferenceOpaque_t* wish) const { cublasLtMatmulPreferenceDestroy(wish); }
  };
  using Description = std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy>;
  using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy>;
  using Preference = std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Destroy>;
  /// How a product of this shape is computed, in the order of cuBLASLt, where matrices have contiguous columns: out^T
  /// is b^T a^T.
  struct Plan {
    Description description;
    Layout b, a, addend, out;
    cublasLtMatmulAlgo_t algorithm;
  };
  using Shape = std::array<int64_t, 15>;  // all that a heuristic may depend on

  static Shape shape_of(const LtProduct& product);
  Plan make_plan(const LtProduct& product) const;

  cublasLtHandle_t handle_ = nullptr;
  DeviceMemory workspace_;
  std::map<Shape, Plan> plans_;
};

}  // namespace plumb
