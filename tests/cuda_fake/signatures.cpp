// The declarations of the fake, held against the real headers: compiled with the fake's and, where CUDA and NCCL are
// installed, with theirs. A pointer of the type that plumb calls must be able to hold each function.
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

static_assert(cudaSuccess == 0 && cudaErrorInvalidValue == 1 && cudaErrorMemoryAllocation == 2);
static_assert(cudaErrorInvalidResourceHandle == 400 && cudaErrorNotReady == 600 && cudaErrorLaunchFailure == 719);
static_assert(cudaMemcpyHostToDevice == 1 && cudaMemcpyDeviceToHost == 2 && cudaMemcpyDeviceToDevice == 3);
static_assert(cudaStreamNonBlocking == 1 && cudaEventDisableTiming == 2 && cudaHostAllocDefault == 0);
static_assert(ncclSuccess == 0 && ncclUnhandledCudaError == 1 && ncclSystemError == 2 && ncclInvalidArgument == 4);
static_assert(ncclInvalidUsage == 5 && ncclRemoteError == 6 && ncclInProgress == 7);
static_assert(ncclUint8 == 1 && ncclFloat32 == 7 && ncclBfloat16 == 9 && ncclSum == 0);
static_assert(NCCL_UNIQUE_ID_BYTES == 128 && sizeof(ncclUniqueId) == 128);
static_assert(NCCL_WIN_COLL_SYMMETRIC == 1 && NCCL_WIN_REQUIRED_ALIGNMENT == 4096);
static_assert(std::is_same_v<decltype(ncclConfig_t::blocking), int>);
static_assert(std::is_same_v<decltype(ncclConfig_t::commName), const char*>);

}  // namespace
