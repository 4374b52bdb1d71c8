// Loss, statistics and gradient of rows of logits: a block reads a row once, with a running maximum, and a second time
// to replace it by its gradient. The last rows come first, because the product before has just written them.
// Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", arXiv:1805.02867.
#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

constexpr float kLowest = -3.0e38f, kMostBelow = -1.0e4f;  // exp of either is zero, and 0 times either is no NaN
constexpr int kNone = 0x7fffffff;

/// Logits z with maximum m: sums of e = exp(z - m), e (z - m), e^2 and z.
struct Sums {
  float most = kLowest;
  int first = kNone;  // the first index of the maximum
  float exps = 0, weighted = 0, squares = 0, logits = 0;
  float poison = 0;  // becomes NaN if a logit is not finite, which comparisons drop
};

__device__ __forceinline__ float below(float z, float most) { return fmaxf(z - most, kMostBelow); }

/// The sums for a larger maximum.
__device__ __forceinline__ void raise(Sums& sums, float most) {
  const float shift = below(sums.most, most), factor = expf(shift);
  sums.weighted = factor * (sums.weighted + sums.exps * shift);
  sums.exps *= factor;
  sums.squares *= factor * factor;
  sums.most = most;
}

__device__ __forceinline__ void add(Sums& sums, const Pack& z, int64_t i, int64_t vocab) {
  float most = sums.most;
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    if (z.v[k] > most) {
      most = z.v[k];
      sums.first = static_cast<int>(i) + k;
    }
  }
  if (most > sums.most) raise(sums, most);
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    const float centered = below(z.v[k], most), e = expf(centered);
    sums.exps += e;
    sums.weighted += e * centered;
    sums.squares += e * e;
    sums.poison += z.v[k] * 0.0f;
    if (i + k < vocab) sums.logits += z.v[k];
  }
}

/// Adds the sums of all threads of the block; every thread gets them.
__device__ __forceinline__ Sums add_over_block(Sums own) {
  Sums all;
  all.most = reduce_block<Larger>(own.most);
  all.first = reduce_block<Smaller>(own.most == all.most ? own.first : kNone);
  raise(own, all.most);
  all.exps = reduce_block<Add>(own.exps);
  all.weighted = reduce_block<Add>(own.weighted);
  all.squares = reduce_block<Add>(own.squares);
  all.logits = reduce_block<Add>(own.logits);
  all.poison = reduce_block<Add>(own.poison);
  return all;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(T* all_logits, const int64_t* labels, int64_t vocab, TokenLoss token_loss,
                         const float* gradient_scales, TokenStats* stats) {
  const int64_t row = gridDim.x - 1 - blockIdx.x, label = labels[row],
                first = static_cast<int64_t>(threadIdx.x) * kPack;
  T* const logits = all_logits + row * vocab;
  const float label_logit = to_float(logits[label]);  // before the barriers below, and so before it is overwritten
  Sums own;
  for (int64_t i = first; i < vocab; i += kThreads * kPack) add(own, load_pack(logits, i, vocab, kLowest), i, vocab);
  const Sums sums = add_over_block(own);
  const float log_total = logf(sums.exps), log_probability = label_logit - sums.most - log_total;
  const float probability = expf(log_probability);
  const bool is_dft = token_loss == TokenLoss::kDft;
  if (threadIdx.x == 0) {
    const float loss = is_dft ? -probability * log_probability : -log_probability;
    stats[row] = {isfinite(sums.poison) ? loss : nanf(""), log_probability,
                  log_total - sums.weighted / sums.exps,   label == sums.first,
                  sums.logits / static_cast<float>(vocab), logf(sums.squares) - 2 * log_total};
  }
  if (!gradient_scales) return;
  const float gradient_scale = gradient_scales[row], scale = is_dft ? gradient_scale * probability : gradient_scale;
  const float share = scale / sums.exps, at_label = (probability - 1.0f) * scale;
  for (int64_t i = first; i < vocab; i += kThreads * kPack) {
    Pack gradient = {};
    if (gradient_scale != 0) {
      const Pack z = load_pack(logits, i, vocab, kLowest);
      gradient = make_pack([&](int k) { return i + k == label ? at_label : expf(z.v[k] - sums.most) * share; });
    }
    store_pack(logits, i, vocab, gradient);
  }
}

}  // namespace

template <class T>
void cross_entropy(T* logits, const int64_t* labels, int64_t num_rows, int64_t vocab, TokenLoss token_loss,
                   const float* gradient_scales, TokenStats* stats, cudaStream_t stream) {
  launch(cross_entropy_kernel<T>, num_rows, kThreads, 0, stream, logits, labels, vocab, token_loss, gradient_scales,
         stats);
}

template void cross_entropy(float*, const int64_t*, int64_t, int64_t, TokenLoss, const float*, TokenStats*,
                            cudaStream_t);
template void cross_entropy(BFloat16*, const int64_t*, int64_t, int64_t, TokenLoss, const float*, TokenStats*,
                            cudaStream_t);

}  // namespace plumb::cuda
