// The declarations of the fake, held against the real headers: compiled with the fake's and, where all three are
// installed, with theirs. A pointer of the type that plumb calls must be able to hold each function.
#include <cublasLt.h>
#include <nccl.h>

#include <cstddef>
#include <type_traits>

namespace {

template <class Function>
constexpr bool has_type(Function*) {
  return true;
}

static_assert(has_type<const char*(cudaError_t)>(&cudaGetErrorString));
static_assert(has_type<cudaError_t()>(&cudaGetLastError));
static_assert(has_type<cudaError_t(int*, int*)>(&cudaDeviceGetStreamPriorityRange));
static_assert(has_type<cudaError_t()>(&cudaDeviceSynchronize));
static_assert(has_type<cudaError_t(void**, size_t)>(&cudaMalloc));
static_assert(has_type<cudaError_t(void*)>(&cudaFree));
static_assert(has_type<cudaError_t(void**, size_t, unsigned)>(&cudaHostAlloc));
static_assert(has_type<cudaError_t(void*)>(&cudaFreeHost));
static_assert(has_type<cudaError_t(size_t*, size_t*)>(&cudaMemGetInfo));
static_assert(has_type<cudaError_t(void*, const void*, size_t, cudaMemcpyKind, cudaStream_t)>(&cudaMemcpyAsync));
static_assert(has_type<cudaError_t(void*, int, size_t, cudaStream_t)>(&cudaMemsetAsync));
static_assert(has_type<cudaError_t(cudaStream_t*, unsigned, int)>(&cudaStreamCreateWithPriority));
static_assert(has_type<cudaError_t(cudaStream_t)>(&cudaStreamDestroy));
static_assert(has_type<cudaError_t(cudaStream_t)>(&cudaStreamSynchronize));
static_assert(has_type<cudaError_t(cudaStream_t, cudaEvent_t, unsigned)>(&cudaStreamWaitEvent));
static_assert(has_type<cudaError_t(cudaEvent_t*, unsigned)>(&cudaEventCreateWithFlags));
static_assert(has_type<cudaError_t(cudaEvent_t)>(&cudaEventDestroy));
static_assert(has_type<cudaError_t(cudaEvent_t, cudaStream_t)>(&cudaEventRecord));
static_assert(has_type<cudaError_t(cudaEvent_t)>(&cudaEventQuery));
static_assert(has_type<cudaError_t(cudaEvent_t)>(&cudaEventSynchronize));

static_assert(has_type<const char*(ncclResult_t)>(&ncclGetErrorString));
static_assert(has_type<const char*(ncclComm_t)>(&ncclGetLastError));
static_assert(has_type<ncclResult_t(ncclUniqueId*)>(&ncclGetUniqueId));
static_assert(has_type<ncclResult_t(ncclComm_t*, int, ncclUniqueId, int, ncclConfig_t*)>(&ncclCommInitRankConfig));
static_assert(has_type<ncclResult_t(ncclComm_t, ncclResult_t*)>(&ncclCommGetAsyncError));
static_assert(has_type<ncclResult_t(ncclComm_t)>(&ncclCommFinalize));
static_assert(has_type<ncclResult_t(ncclComm_t)>(&ncclCommDestroy));
static_assert(has_type<ncclResult_t(ncclComm_t)>(&ncclCommAbort));
static_assert(has_type<ncclResult_t(void**, size_t)>(&ncclMemAlloc));
static_assert(has_type<ncclResult_t(void*)>(&ncclMemFree));
static_assert(has_type<ncclResult_t(ncclComm_t, void*, size_t, ncclWindow_t*, int)>(&ncclCommWindowRegister));
static_assert(has_type<ncclResult_t(ncclComm_t, ncclWindow_t)>(&ncclCommWindowDeregister));
static_assert(has_type<ncclResult_t()>(&ncclGroupStart));
static_assert(has_type<ncclResult_t()>(&ncclGroupEnd));
static_assert(has_type<ncclResult_t(const void*, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)>(&ncclSend));
static_assert(has_type<ncclResult_t(void*, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)>(&ncclRecv));
static_assert(
    has_type<ncclResult_t(const void*, void*, size_t, ncclDataType_t, ncclComm_t, cudaStream_t)>(&ncclAllGather));
static_assert(has_type<ncclResult_t(const void*, void*, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t)>(
    &ncclReduceScatter));

static_assert(has_type<size_t()>(&cublasLtGetVersion));
static_assert(has_type<const char*(cublasStatus_t)>(&cublasLtGetStatusString));
static_assert(has_type<cublasStatus_t(cublasLtHandle_t*)>(&cublasLtCreate));
static_assert(has_type<cublasStatus_t(cublasLtHandle_t)>(&cublasLtDestroy));
static_assert(
    has_type<cublasStatus_t(cublasLtMatmulDesc_t*, cublasComputeType_t, cudaDataType_t)>(&cublasLtMatmulDescCreate));
static_assert(has_type<cublasStatus_t(cublasLtMatmulDesc_t)>(&cublasLtMatmulDescDestroy));
static_assert(has_type<cublasStatus_t(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void*, size_t)>(
    &cublasLtMatmulDescSetAttribute));
static_assert(has_type<cublasStatus_t(cublasLtMatrixLayout_t*, cudaDataType, uint64_t, uint64_t, int64_t)>(
    &cublasLtMatrixLayoutCreate));
static_assert(has_type<cublasStatus_t(cublasLtMatrixLayout_t)>(&cublasLtMatrixLayoutDestroy));
static_assert(has_type<cublasStatus_t(cublasLtMatmulPreference_t*)>(&cublasLtMatmulPreferenceCreate));
static_assert(has_type<cublasStatus_t(cublasLtMatmulPreference_t)>(&cublasLtMatmulPreferenceDestroy));
static_assert(has_type<cublasStatus_t(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, const void*,
                                      size_t)>(&cublasLtMatmulPreferenceSetAttribute));
static_assert(
    has_type<cublasStatus_t(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                            cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int,
                            cublasLtMatmulHeuristicResult_t*, int*)>(&cublasLtMatmulAlgoGetHeuristic));
static_assert(has_type<cublasStatus_t(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*, const void*,
                                      cublasLtMatrixLayout_t, const void*, cublasLtMatrixLayout_t, const void*,
                                      const void*, cublasLtMatrixLayout_t, void*, cublasLtMatrixLayout_t,
                                      const cublasLtMatmulAlgo_t*, void*, size_t, cudaStream_t)>(&cublasLtMatmul));

static_assert(cudaSuccess == 0 && cudaErrorInvalidValue == 1 && cudaErrorMemoryAllocation == 2);
static_assert(cudaErrorInvalidResourceHandle == 400 && cudaErrorNotReady == 600 && cudaErrorLaunchFailure == 719);
static_assert(cudaMemcpyHostToDevice == 1 && cudaMemcpyDeviceToHost == 2 && cudaMemcpyDeviceToDevice == 3);
static_assert(cudaStreamNonBlocking == 1 && cudaEventDisableTiming == 2 && cudaHostAllocDefault == 0);
static_assert(CUBLAS_STATUS_SUCCESS == 0 && CUBLAS_STATUS_INVALID_VALUE == 7 && CUBLAS_STATUS_NOT_SUPPORTED == 15);
static_assert(CUBLAS_OP_N == 0 && CUBLAS_OP_T == 1 && CUBLAS_COMPUTE_32F == 68 && CUDA_R_32F == 0 && CUDA_R_16BF == 14);
static_assert(CUBLASLT_MATMUL_DESC_TRANSA == 3 && CUBLASLT_MATMUL_DESC_TRANSB == 4);
static_assert(CUBLASLT_MATMUL_DESC_EPILOGUE == 7 && CUBLASLT_MATMUL_DESC_BIAS_POINTER == 8);
static_assert(CUBLASLT_EPILOGUE_DEFAULT == 1 && CUBLASLT_EPILOGUE_BIAS == 4);
static_assert(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES == 1 && CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK == 3);
static_assert(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES == 5 && CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES == 8);
static_assert(CUBLASLT_REDUCTION_SCHEME_INPLACE == 1 && CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE == 2);
static_assert(sizeof(cublasLtMatmulAlgo_t) == 64 && offsetof(cublasLtMatmulHeuristicResult_t, state) == 72);
static_assert(ncclSuccess == 0 && ncclUnhandledCudaError == 1 && ncclSystemError == 2 && ncclInvalidArgument == 4);
static_assert(ncclInvalidUsage == 5 && ncclRemoteError == 6 && ncclInProgress == 7);
static_assert(ncclUint8 == 1 && ncclFloat32 == 7 && ncclBfloat16 == 9 && ncclSum == 0);
static_assert(NCCL_UNIQUE_ID_BYTES == 128 && sizeof(ncclUniqueId) == 128);
static_assert(NCCL_WIN_COLL_SYMMETRIC == 1 && NCCL_WIN_REQUIRED_ALIGNMENT == 4096);
static_assert(std::is_same_v<decltype(ncclConfig_t::blocking), int>);
static_assert(std::is_same_v<decltype(ncclConfig_t::commName), const char*>);

}  // namespace
