#include "tests/cuda_fake/fake_cublas_lt.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/cuda_fake/bfloat16.hpp"
#include "tests/cuda_fake/fake.hpp"

namespace plumb::fake {

CublasLtState& cublas_lt() {
  static CublasLtState state;
  return state;
}

namespace {

constexpr size_t kLeastWorkspace = 1024;  // what every algorithm of the fake writes

// The contents of the opaque descriptions.
struct Layout {
  uint64_t type, rows, columns, stride;

  static Layout of(cublasLtMatrixLayout_t opaque) {
    return {opaque->data[0], opaque->data[1], opaque->data[2], opaque->data[3]};
  }
  uint64_t element_bytes() const { return type == CUDA_R_32F ? 4 : 2; }
  uint64_t bytes() const { return ((columns - 1) * stride + rows) * element_bytes(); }
  bool operator==(const Layout&) const = default;
};

struct Product {
  const uint64_t* description;
  Layout a, b, c, d;

  uint64_t attribute(cublasLtMatmulDescAttributes_t which) const { return description[which]; }
  bool transposes_a() const { return attribute(CUBLASLT_MATMUL_DESC_TRANSA) == CUBLAS_OP_T; }
  bool transposes_b() const { return attribute(CUBLASLT_MATMUL_DESC_TRANSB) == CUBLAS_OP_T; }
  bool has_bias() const { return attribute(CUBLASLT_MATMUL_DESC_EPILOGUE) == CUBLASLT_EPILOGUE_BIAS; }
  const void* bias() const { return reinterpret_cast<const void*>(attribute(CUBLASLT_MATMUL_DESC_BIAS_POINTER)); }
  uint64_t depth() const { return transposes_a() ? a.rows : a.columns; }

  std::string name() const { return fmt::format("product [{}, {}, {}]", d.rows, d.columns, depth()); }

  void check() const {
    const uint64_t a_rows = transposes_a() ? a.columns : a.rows, b_rows = transposes_b() ? b.columns : b.rows,
                   b_columns = transposes_b() ? b.rows : b.columns;
    if (a_rows != d.rows || b_columns != d.columns || b_rows != depth() || c.rows != d.rows || c.columns != d.columns)
      report(name() + " has matrices that do not fit");
    for (const Layout& matrix : {a, b, c, d})
      if (matrix.stride < matrix.rows || matrix.rows == 0 || matrix.columns == 0)
        report(fmt::format("{} has a matrix of {} x {} with stride {}", name(), matrix.rows, matrix.columns,
                           matrix.stride));
    if (a.type != b.type || c.type != d.type || (d.type != a.type && d.type != CUDA_R_32F))
      report(name() + " has types that no algorithm has");
    if (description[0] != CUBLAS_COMPUTE_32F || description[1] != CUDA_R_32F)
      report(name() + " is not summed in float32");
  }

  /// Names everything that an algorithm is found for.
  uint64_t hash() const {
    uint64_t sum = 1469598103934665603u;
    for (const Layout& m : {a, b, c, d})
      for (const uint64_t value : {m.type, m.rows, m.columns, m.stride}) sum = (sum ^ value) * 1099511628211u;
    for (const bool value : {transposes_a(), transposes_b(), has_bias()})
      sum = (sum ^ (value ? 2 : 1)) * 1099511628211u;
    return sum;
  }
};

double element(const void* matrix, const Layout& layout, uint64_t row, uint64_t column) {
  const uint64_t at = column * layout.stride + row;
  return layout.type == CUDA_R_32F ? static_cast<const float*>(matrix)[at]
                                   : to_float(static_cast<const uint16_t*>(matrix)[at]);
}

struct Memory {
  const void *a, *b, *c;
  void* d;
};

void compute(const Product& product, const Memory& memory, float alpha, float beta, const void* bias) {
  const Layout bias_layout = {product.d.type, product.d.rows, 1, product.d.rows};
  for (uint64_t j = 0; j < product.d.columns; ++j)
    for (uint64_t i = 0; i < product.d.rows; ++i) {
      double sum = 0;
      for (uint64_t k = 0; k < product.depth(); ++k)
        sum += (product.transposes_a() ? element(memory.a, product.a, k, i) : element(memory.a, product.a, i, k)) *
               (product.transposes_b() ? element(memory.b, product.b, j, k) : element(memory.b, product.b, k, j));
      sum *= alpha;
      if (beta != 0) sum += beta * element(memory.c, product.c, i, j);
      if (bias != nullptr) sum += element(bias, bias_layout, i, 0);
      const uint64_t at = j * product.d.stride + i;
      if (product.d.type == CUDA_R_32F)
        static_cast<float*>(memory.d)[at] = static_cast<float>(sum);
      else
        static_cast<uint16_t*>(memory.d)[at] = to_bfloat16(static_cast<float>(sum));
    }
}

template <class Opaque>
Opaque* new_object() {
  count_object("descriptions of cuBLASLt", 1);
  return new Opaque{};
}
template <class Opaque>
cublasStatus_t delete_object(Opaque* object) {
  count_object("descriptions of cuBLASLt", -1);
  delete object;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t set_value(uint64_t& to, const void* value, size_t bytes) {
  to = 0;
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

}  // namespace plumb::fake

using plumb::fake::cublas_lt;
using plumb::fake::Layout;
using plumb::fake::Product;

extern "C" {

size_t cublasLtGetVersion() { return 130400; }
const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    default:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  plumb::fake::count_object("handles of cuBLASLt", 1);
  *handle = reinterpret_cast<cublasLtHandle_t>(&cublas_lt());
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) {
  plumb::fake::count_object("handles of cuBLASLt", -1);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *description = plumb::fake::new_object<cublasLtMatmulDescOpaque_t>();
  (*description)->data[0] = compute;
  (*description)->data[1] = scale;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  return plumb::fake::delete_object(description);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
  const size_t expected = attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof(void*) : sizeof(int32_t);
  if (bytes != expected) return CUBLAS_STATUS_INVALID_VALUE;
  return plumb::fake::set_value(description->data[attribute], value, bytes);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t stride) {
  *layout = plumb::fake::new_object<cublasLtMatrixLayoutOpaque_t>();
  const uint64_t values[] = {static_cast<uint64_t>(type), rows, columns, static_cast<uint64_t>(stride)};
  std::copy(std::begin(values), std::end(values), (*layout)->data);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return plumb::fake::delete_object(layout); }

// Attribute i of a preference is data[i - 1].
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = plumb::fake::new_object<cublasLtMatmulPreferenceOpaque_t>();
  (*preference)->data[CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK - 1] = CUBLASLT_REDUCTION_SCHEME_MASK;
  for (int i = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES; i <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES; ++i)
    (*preference)->data[i - 1] = 256;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return plumb::fake::delete_object(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  const size_t expected = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? sizeof(uint64_t) : sizeof(uint32_t);
  if (bytes != expected) return CUBLAS_STATUS_INVALID_VALUE;
  return plumb::fake::set_value(preference->data[attribute - 1], value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int num_requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* num_results) {
  ++cublas_lt().num_heuristics;
  *num_results = 0;
  if (num_requested < 1) return CUBLAS_STATUS_INVALID_VALUE;
  const Product product = {description->data, Layout::of(a), Layout::of(b), Layout::of(c), Layout::of(d)};
  product.check();
  const uint64_t* const wish = preference->data;
  if ((wish[CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK - 1] & ~uint64_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}) != 0)
    plumb::fake::report(product.name() + " may be reduced by atomics or in the type of its output");
  if (cublas_lt().finds_nothing) return CUBLAS_STATUS_SUCCESS;
  *num_results = 1;
  results[0] = {};
  results[0].state = cublas_lt().heuristic_status;
  results[0].workspaceSize = std::min<size_t>(plumb::fake::kLeastWorkspace, wish[0]);
  uint64_t* const algorithm = results[0].algo.data;
  algorithm[0] = product.hash();
  std::copy_n(wish + CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES - 1, 4, algorithm + 1);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  ++cublas_lt().num_products;
  if (cublas_lt().product_status != CUBLAS_STATUS_SUCCESS) return cublas_lt().product_status;
  const Product product = {description->data, Layout::of(a_layout), Layout::of(b_layout), Layout::of(c_layout),
                           Layout::of(d_layout)};
  product.check();
  const float scale = *static_cast<const float*>(alpha), of_c = *static_cast<const float*>(beta);
  if (algorithm->data[0] != product.hash()) plumb::fake::report(product.name() + " has an algorithm of another");
  const void* const pointers[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (reinterpret_cast<uintptr_t>(pointers[i]) % algorithm->data[1 + i] != 0)
      plumb::fake::report(fmt::format("{}: matrix {} is less aligned than its description", product.name(), "ABCD"[i]));
  if (workspace_bytes < plumb::fake::kLeastWorkspace) plumb::fake::report(product.name() + " lacks its workspace");
  if (c == d && !(product.c == product.d)) plumb::fake::report(product.name() + " adds to another view of its output");
  const void* const bias = product.has_bias() ? product.bias() : nullptr;
  std::vector<plumb::fake::Access> accesses = {
      plumb::fake::reads(a, product.a.bytes()), plumb::fake::reads(b, product.b.bytes()),
      plumb::fake::writes(d, product.d.bytes()), plumb::fake::writes(workspace, plumb::fake::kLeastWorkspace)};
  if (of_c != 0) accesses.push_back(plumb::fake::reads(c, product.c.bytes()));
  if (bias != nullptr) accesses.push_back(plumb::fake::reads(bias, product.d.rows * product.d.element_bytes()));
  const std::vector<uint64_t> kept(description->data, description->data + 32);
  plumb::fake::enqueue(stream, product.name(), accesses, [=] {
    Product later = product;
    later.description = kept.data();
    compute(later, {a, b, c, d}, scale, of_c, bias);
    return true;
  });
  return CUBLAS_STATUS_SUCCESS;
}
}
