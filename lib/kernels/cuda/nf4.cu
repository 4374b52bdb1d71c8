// NF4: a thread has eight elements, which are one 32-bit word of codes. Products and sums are never fused, so that the
// bits are those of lib/kernels/nf4_isa.cpp.
#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

constexpr int64_t kBlock = 64, kNestedBlock = 256;  // elements of a scale, scales of a nested scale
constexpr int kNumCodes = 16;

/// A copy of kNf4Values where device code can read it.
struct CodeValues {
  float v[kNumCodes];
};
inline CodeValues code_values() {
  CodeValues values;
  for (int i = 0; i < kNumCodes; ++i) values.v[i] = kNf4Values[i];
  return values;
}

/// To binary16 (11 significant bits), ties to even; the result is still a float.
__device__ __forceinline__ float rounded_to_f16(float x) {
  const unsigned bits = __float_as_uint(x), sign = bits & 0x80000000u, magnitude_bits = bits & 0x7fffffffu;
  const float magnitude = __uint_as_float(magnitude_bits);
  const float normal = __uint_as_float((magnitude_bits + 0xfffu + ((magnitude_bits >> 13) & 1u)) & ~0x1fffu);
  const float subnormal = __fsub_rn(__fadd_rn(magnitude, 0.5f), 0.5f);  // to multiples of 2^-24
  const float rounded = magnitude < 0x1p-14f ? subnormal : normal;
  const float finite = rounded > 65504.0f ? __uint_as_float(0x7f800000u) : rounded;
  return __uint_as_float(__float_as_uint(finite) | sign);
}

__device__ __forceinline__ float rounded_to_original(float x, Dtype original) {
  if (original == Dtype::kF32) return x;
  return original == Dtype::kF16 ? rounded_to_f16(x) : to_float(rounded_to<BFloat16>(x));
}

__device__ __forceinline__ float scale_of(const Nf4Matrix& matrix, int64_t block) {
  if (matrix.scales) return matrix.scales[block];
  return __fadd_rn(__fmul_rn(matrix.map[matrix.absmax_codes[block]], matrix.nested_absmax[block / kNestedBlock]),
                   *matrix.mean);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    nf4_dequantize_kernel(Nf4Matrix matrix, CodeValues values, int64_t begin, int64_t n, T* out) {
  float* const value_of = dynamic_shared<float>();
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < kNumCodes; ++i) value_of[i] = values.v[i];
  }
  __syncthreads();
  const int64_t i = thread_index() * kPack, at = begin + i;
  if (i >= n) return;
  const uint8_t* const codes = matrix.codes + at / 2;
  Pack x;
  if (at % kPack == 0 && i + kPack <= n && reinterpret_cast<uintptr_t>(codes) % 4 == 0) {
    const unsigned word = *reinterpret_cast<const unsigned*>(codes);
    const float scale = scale_of(matrix, at / kBlock);
#pragma unroll
    for (int k = 0; k < kPack; ++k)  // the first of a byte is in its upper half
      x.v[k] = __fmul_rn(value_of[word >> (8 * (k / 2) + (k % 2 == 0 ? 4 : 0)) & 15u], scale);
  } else {
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      x.v[k] = 0;
      if (i + k >= n) continue;
      const unsigned byte = matrix.codes[(at + k) / 2];
      x.v[k] = __fmul_rn(value_of[byte >> ((at + k) % 2 == 0 ? 4 : 0) & 15u], scale_of(matrix, (at + k) / kBlock));
    }
  }
  store_pack(out, i, n, make_pack([&](int k) { return rounded_to_original(x.v[k], matrix.original); }));
}

/// The number of midpoints between values that are below x, as rounded in bitsandbytes (csrc/kernels.cu dQuantizeNF4).
__device__ __forceinline__ unsigned code_of(float x) {
  constexpr float kThresholds[] = {
      -0.8480964004993439f,  -0.6106329262256622f,   -0.4599952697753906f, -0.33967943489551544f, -0.23460740596055984f,
      -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f,   0.2035212516784668f,
      0.2920137718319893f,   0.3893125355243683f,    0.5016634166240692f,  0.6427869200706482f,   0.8614784181118011f};
  unsigned code = 0;
#pragma unroll
  for (int k = 0; k < kNumCodes - 1; ++k) code += x > kThresholds[k] ? 1u : 0u;
  return code;
}

/// Eight threads have a block of 64.
__global__ void __launch_bounds__(kThreads)
    nf4_quantize_kernel(const float* values, int64_t n, uint8_t* codes, float* scales) {
  const int64_t i = thread_index() * kPack;
  const Pack x = load_pack(values, i, n);  // zeros past the end; all lanes take part in the shuffles
  float most = 0;
#pragma unroll
  for (int k = 0; k < kPack; ++k) most = fmaxf(most, fabsf(x.v[k]));
#pragma unroll
  for (int distance = 4; distance > 0; distance /= 2) most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, distance));
  const float factor = __fdiv_rn(1.0f, fmaxf(most, 1e-38f));
  if (i % kBlock == 0 && i < n) scales[i / kBlock] = most;
#pragma unroll
  for (int k = 0; k < kPack; k += 2)
    if (i + k < n)
      codes[(i + k) / 2] =
          static_cast<uint8_t>(code_of(__fmul_rn(x.v[k], factor)) << 4 | code_of(__fmul_rn(x.v[k + 1], factor)));
}

}  // namespace

template <class T>
void nf4_dequantize(const Nf4Matrix& matrix, int64_t begin, int64_t n, T* out, cudaStream_t stream) {
  launch(nf4_dequantize_kernel<T>, blocks_for(num_packs(1, n)), kThreads, kNumCodes * sizeof(float), stream, matrix,
         code_values(), begin, n, out);
}

void nf4_quantize(const float* values, int64_t n, uint8_t* codes, float* scales, cudaStream_t stream) {
  launch(nf4_quantize_kernel, blocks_for(num_packs(1, n)), kThreads, 0, stream, values, n, codes, scales);
}

template void nf4_dequantize(const Nf4Matrix&, int64_t, int64_t, float*, cudaStream_t);
template void nf4_dequantize(const Nf4Matrix&, int64_t, int64_t, BFloat16*, cudaStream_t);

}  // namespace plumb::cuda
