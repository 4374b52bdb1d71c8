#include "lib/nn/cublas_lt.hpp"

#include <algorithm>
#include <string>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

// As LibTorch has it on Hopper; the same on every GPU, because it decides which algorithms there are.
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

void check_lt(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(fmt::format("the GPU: cannot {}: cuBLASLt: {}", what, cublasLtGetStatusString(status)), kExitInternal);
}

const char* name_of(LtType type) { return type == LtType::kFloat ? "float32" : "bfloat16"; }
cudaDataType type_of(LtType type) { return type == LtType::kFloat ? CUDA_R_32F : CUDA_R_16BF; }

/// The largest power of two at a multiple of which the matrix begins, up to the widest load of a GPU: more would only
/// make the algorithm, and so the bits, depend on where a matrix lies.
uint32_t alignment_of(const void* data) {
  constexpr uintptr_t kWidestLoad = 16;
  const auto address = reinterpret_cast<uintptr_t>(data);
  return static_cast<uint32_t>(std::min(kWidestLoad, address & (~address + 1)));
}

/// The addend of a product without one is not read, but described like its output.
LtMatrix addend_or_out(const LtProduct& product) {
  return product.addend.data != nullptr ? product.addend : LtMatrix{product.out, product.out_stride, false};
}

template <class Value>
void set(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute, Value value) {
  check_lt(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof value), "describe a product");
}
template <class Value>
void set(cublasLtMatmulPreference_t wish, cublasLtMatmulPreferenceAttributes_t attribute, Value value) {
  check_lt(cublasLtMatmulPreferenceSetAttribute(wish, attribute, &value, sizeof value), "describe a product");
}

/// rows by columns of the product's factor as its columns of contiguous elements.
cublasLtMatrixLayout_t new_layout(LtType type, int64_t rows, int64_t columns, const LtMatrix& matrix) {
  if (matrix.is_transposed) std::swap(rows, columns);
  cublasLtMatrixLayout_t layout = nullptr;
  check_lt(cublasLtMatrixLayoutCreate(&layout, type_of(type), static_cast<uint64_t>(columns),
                                      static_cast<uint64_t>(rows), matrix.stride),
           "describe a matrix");
  return layout;
}

cublasLtMatmulDesc_t new_description() {
  cublasLtMatmulDesc_t description = nullptr;
  check_lt(cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describe a product");
  return description;
}

std::string describe(const LtProduct& product) {
  const auto side = [](const LtMatrix& matrix) { return matrix.is_transposed ? "columns" : "rows"; };
  return fmt::format("[{}, {}] x [{}, {}], {} to {}, from {} of {} and {} of {} to rows of {}{}{}", product.num_rows,
                     product.depth, product.depth, product.num_columns, name_of(product.factors),
                     name_of(product.out_type), side(product.a), product.a.stride, side(product.b), product.b.stride,
                     product.out_stride, product.addend.data != nullptr ? ", with an addend" : "",
                     product.bias != nullptr ? ", with a bias" : "");
}

[[noreturn]] void throw_failed(const LtProduct& product, cublasStatus_t status) {
  throw Error(fmt::format("the GPU: cannot multiply {}: cuBLASLt {}: {}", describe(product), cublasLtGetVersion(),
                          cublasLtGetStatusString(status)),
              kExitInternal);
}

}  // namespace

CublasLt::CublasLt() : workspace_(kWorkspaceBytes, "the workspace of products") {
  check_lt(cublasLtCreate(&handle_), "start");
}

CublasLt::~CublasLt() {
  plans_.clear();
  cublasLtDestroy(handle_);
}

CublasLt::Shape CublasLt::shape_of(const LtProduct& product) {
  const LtMatrix addend = addend_or_out(product);
  return {product.num_rows,
          product.num_columns,
          product.depth,
          product.a.stride,
          product.b.stride,
          addend.stride,
          product.out_stride,
          2 * product.a.is_transposed + product.b.is_transposed,
          2 * static_cast<int>(product.factors) + static_cast<int>(product.out_type),
          2 * (addend.data != product.out) + (product.bias != nullptr),
          alignment_of(product.a.data),
          alignment_of(product.b.data),
          alignment_of(addend.data),
          alignment_of(product.out),
          alignment_of(product.bias)};
}

CublasLt::Plan CublasLt::make_plan(const LtProduct& product) const {
  const LtMatrix addend = addend_or_out(product), out = {product.out, product.out_stride, false};
  Plan plan = {Description(new_description()),
               Layout(new_layout(product.factors, product.depth, product.num_columns, product.b)),
               Layout(new_layout(product.factors, product.num_rows, product.depth, product.a)),
               Layout(new_layout(product.out_type, product.num_rows, product.num_columns, addend)),
               Layout(new_layout(product.out_type, product.num_rows, product.num_columns, out)),
               {}};
  const auto operation = [](const LtMatrix& m) { return m.is_transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  set(plan.description.get(), CUBLASLT_MATMUL_DESC_TRANSA, operation(product.b));
  set(plan.description.get(), CUBLASLT_MATMUL_DESC_TRANSB, operation(product.a));
  if (product.bias != nullptr) {
    set(plan.description.get(), CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(plan.description.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
  }
  cublasLtMatmulPreference_t new_wish = nullptr;
  check_lt(cublasLtMatmulPreferenceCreate(&new_wish), "describe a product");
  const Preference wish(new_wish);
  set(wish.get(), CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kWorkspaceBytes));
  set(wish.get(), CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(wish.get(), CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(product.b.data));
  set(wish.get(), CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(product.a.data));
  set(wish.get(), CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(addend.data));
  set(wish.get(), CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(product.out));
  cublasLtMatmulHeuristicResult_t first = {};
  int num_found = 0;
  cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle_, plan.description.get(), plan.b.get(), plan.a.get(), plan.addend.get(),
                                     plan.out.get(), wish.get(), 1, &first, &num_found);
  if (status == CUBLAS_STATUS_SUCCESS) status = num_found == 1 ? first.state : CUBLAS_STATUS_NOT_SUPPORTED;
  if (status != CUBLAS_STATUS_SUCCESS) throw_failed(product, status);
  plan.algorithm = first.algo;
  return plan;
}

void CublasLt::multiply(const LtProduct& product, cudaStream_t stream) {
  const Shape shape = shape_of(product);
  auto found = plans_.find(shape);
  if (found == plans_.end()) found = plans_.emplace(shape, make_plan(product)).first;
  const Plan& plan = found->second;
  if (product.bias != nullptr) set(plan.description.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
  const float beta = product.addend.data != nullptr ? 1 : 0;
  const cublasStatus_t status =
      cublasLtMatmul(handle_, plan.description.get(), &product.scale, product.b.data, plan.b.get(), product.a.data,
                     plan.a.get(), &beta, addend_or_out(product).data, plan.addend.get(), product.out, plan.out.get(),
                     &plan.algorithm, workspace_.data(), kWorkspaceBytes, stream);
  if (status != CUBLAS_STATUS_SUCCESS) throw_failed(product, status);
}

}  // namespace plumb
