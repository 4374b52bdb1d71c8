// XXH3-128 of pieces of memory, as the checkpoints' manifests have it. Within a block of 1024 bytes the sums of XXH3
// are over integers, so that a warp adds them in any order; from block to block they are mixed one after the other, by
// eight threads. A piece belongs to a block of threads, and there are many pieces.
// Source: xxHash, doc/xxhash_spec.md, "XXH3 algorithm overview", for inputs of more than 240 bytes, seed 0.
#include <stdexcept>

#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

constexpr int kSums = 8;  // 64-bit accumulators
constexpr int64_t kStripeBytes = 64, kBlockBytes = 1024, kStripesOfBlock = kBlockBytes / kStripeBytes;
constexpr int kSecretBytes = 192;
constexpr int kBlocksAtWork = 64;  // whose sums are added before they are mixed

constexpr uint64_t kPrime32_1 = 0x9e3779b1u, kPrime32_2 = 0x85ebca77u, kPrime32_3 = 0xc2b2ae3du;
constexpr uint64_t kMix = 0x165667919e3779f9u;
constexpr uint64_t kPrime64_1 = 0x9e3779b185ebca87u, kPrime64_2 = 0xc2b2ae3d27d4eb4fu, kPrime64_3 = 0x165667b19e3779f9u,
                   kPrime64_4 = 0x85ebca77c2b2ae63u, kPrime64_5 = 0x27d4eb2f165667c5u;

constexpr uint8_t kSecret[kSecretBytes] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4,
    0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e,
    0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43,
    0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb,
    0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19,
    0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7,
    0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78,
    0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16,
    0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f,
    0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e};

constexpr uint64_t secret_at(int offset) {
  uint64_t word = 0;
  for (int k = 7; k >= 0; --k) word = word << 8 | kSecret[offset + k];
  return word;
}

/// The words of the secret that XXH3 reads.
struct Secret {
  uint64_t words[kSecretBytes / 8];  // at multiples of 8
  uint64_t of_last[kSums];           // for the last stripe
  uint64_t of_low[kSums], of_high[kSums];
};
constexpr Secret make_secret() {
  Secret secret = {};
  for (int i = 0; i < kSecretBytes / 8; ++i) secret.words[i] = secret_at(8 * i);
  for (int i = 0; i < kSums; ++i) {
    secret.of_last[i] = secret_at(kSecretBytes - 64 - 7 + 8 * i);
    secret.of_low[i] = secret_at(11 + 8 * i);
    secret.of_high[i] = secret_at(kSecretBytes - 64 - 11 + 8 * i);
  }
  return secret;
}

__device__ __forceinline__ uint64_t load_word(const unsigned char* p) {  // at a multiple of 8
  return *reinterpret_cast<const uint64_t*>(p);
}

/// The summand of a word for its place in the stripe; the word itself is added to the neighboring sum.
__device__ __forceinline__ uint64_t product_of(uint64_t word, uint64_t secret) {
  const uint64_t keyed = word ^ secret;
  return (keyed & 0xffffffffu) * (keyed >> 32);
}

/// Adds the first `num_stripes` stripes of a block; lane k of the warp reads words 2k and 2k + 1 of every 64. Writes
/// their eight sums.
__device__ __forceinline__ void add_stripes(const unsigned char* block, int64_t num_stripes, const uint64_t* secret,
                                            uint64_t* sums) {
  const int lane = threadIdx.x % kWarp, place = lane % 4 * 2;
  uint64_t even = 0, odd = 0;
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const int stripe = part * 8 + lane / 4;
    if (stripe >= num_stripes) continue;
    const unsigned char* const at = block + stripe * kStripeBytes + place * 8;
    uint64_t first, second;
    if (is_wide(at)) {
      const uint4 words = *reinterpret_cast<const uint4*>(at);
      first = static_cast<uint64_t>(words.y) << 32 | words.x;
      second = static_cast<uint64_t>(words.w) << 32 | words.z;
    } else {
      first = load_word(at);
      second = load_word(at + 8);
    }
    even += product_of(first, secret[stripe + place]) + second;
    odd += product_of(second, secret[stripe + place + 1]) + first;
  }
#pragma unroll
  for (int distance = 4; distance < kWarp; distance *= 2) {
    even += __shfl_xor_sync(kAllLanes, even, distance);
    odd += __shfl_xor_sync(kAllLanes, odd, distance);
  }
  if (lane < 4) {
    sums[place] = even;
    sums[place + 1] = odd;
  }
}

/// The upper half of the 128-bit product, xor the lower.
__device__ __forceinline__ uint64_t folded_product(uint64_t a, uint64_t b) {
  const uint64_t a_low = a & 0xffffffffu, a_high = a >> 32, b_low = b & 0xffffffffu, b_high = b >> 32;
  const uint64_t low = a_low * b_low, middle = a_high * b_low + (low >> 32);
  const uint64_t other = a_low * b_high + (middle & 0xffffffffu);
  return (a_high * b_high + (middle >> 32) + (other >> 32)) ^ (a * b);
}

__device__ __forceinline__ uint64_t merge(const uint64_t* sums, const uint64_t* secret, uint64_t start) {
  uint64_t hash = start;
  for (int i = 0; i < kSums; i += 2) hash += folded_product(sums[i] ^ secret[i], sums[i + 1] ^ secret[i + 1]);
  hash = (hash ^ hash >> 37) * kMix;
  return hash ^ hash >> 32;
}

/// The sum at place `i` before anything is added.
__device__ __forceinline__ uint64_t first_sum(int i) {
  switch (i) {
    case 0:
      return kPrime32_3;
    case 1:
      return kPrime64_1;
    case 2:
      return kPrime64_2;
    case 3:
      return kPrime64_3;
    case 4:
      return kPrime64_4;
    case 5:
      return kPrime32_2;
    case 6:
      return kPrime64_5;
    default:
      return kPrime32_1;
  }
}

__global__ void __launch_bounds__(kThreads)
    xxh3_kernel(const unsigned char* data, int64_t bytes, int64_t piece_bytes, Secret given, uint64_t* hashes) {
  __shared__ uint64_t secret[kSecretBytes / 8];
  __shared__ uint64_t sums[kBlocksAtWork][kSums];
  __shared__ uint64_t total[kSums];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp;
  const unsigned char* const piece = data + static_cast<int64_t>(blockIdx.x) * piece_bytes;
  const int64_t size = min(piece_bytes, bytes - static_cast<int64_t>(blockIdx.x) * piece_bytes);
  const int64_t num_mixed = (size - 1) / kBlockBytes;  // all but the last block, which may be whole, too
  if (thread < kSecretBytes / 8) secret[thread] = given.words[thread];
  uint64_t sum = first_sum(thread);
  __syncthreads();
  for (int64_t begin = 0; begin <= num_mixed; begin += kBlocksAtWork) {
    const int64_t count = min(static_cast<int64_t>(kBlocksAtWork), num_mixed + 1 - begin);
    for (int64_t k = warp; k < count; k += kWarps) {
      const int64_t at = (begin + k) * kBlockBytes;
      add_stripes(piece + at, begin + k == num_mixed ? (size - 1 - at) / kStripeBytes : kStripesOfBlock, secret,
                  sums[k]);
    }
    __syncthreads();
    for (int64_t k = 0; thread < kSums && k < count; ++k) {
      sum += sums[k][thread];
      if (begin + k < num_mixed) sum = (sum ^ sum >> 47 ^ secret[kSecretBytes / 8 - kSums + thread]) * kPrime32_1;
    }
    __syncthreads();
  }
  if (thread < kSums) {  // the last stripe, which may overlap the one before
    const unsigned char* const stripe = piece + size - kStripeBytes;
    sum += product_of(load_word(stripe + thread * 8), given.of_last[thread]) + load_word(stripe + (thread ^ 1) * 8);
    total[thread] = sum;
  }
  __syncthreads();
  if (thread >= 2) return;
  const auto length = static_cast<uint64_t>(size);
  hashes[2 * blockIdx.x + thread] = thread == 0 ? merge(total, given.of_low, length * kPrime64_1)
                                                : merge(total, given.of_high, ~(length * kPrime64_2));
}

}  // namespace

void xxh3_128(const void* data, int64_t bytes, int64_t piece_bytes, uint64_t* hashes, cudaStream_t stream) {
  constexpr Secret kWords = make_secret();
  if (bytes == 0) return;
  const int64_t last = (bytes - 1) % piece_bytes + 1;
  if (reinterpret_cast<uintptr_t>(data) % 8 != 0 || bytes % 8 != 0 || piece_bytes % 8 != 0 ||
      min(last, piece_bytes) < kLeastXxh3Bytes)
    throw std::logic_error("pieces for XXH3 are words, and more than 240 bytes");
  launch(xxh3_kernel, (bytes + piece_bytes - 1) / piece_bytes, kThreads, 0, stream,
         static_cast<const unsigned char*>(data), bytes, piece_bytes, kWords, hashes);
}

}  // namespace plumb::cuda
