// The kernels of decode_kernels.hpp, compiled once per instruction set, like kernels_isa.cpp.
#include <limits>

#include "lib/kernels/rows_product.hpp"

namespace plumb::PLUMB_ISA {

extern const FloatKernels kFloatKernels;

namespace {

/// out[query] += probability * value for the tokens of one page.
template <class T>
void add_values(const float* probabilities, int64_t probability_stride, int64_t num_queries, const T* values,
                int64_t num_tokens, int64_t head_dim, float* out) {
  constexpr int64_t kQueries = 4;
  for (int64_t first = 0; first < num_queries; first += kQueries) {
    const int64_t queries = std::min(kQueries, num_queries - first);
    for_lanes(head_dim, [&](auto get, auto put, int64_t i) {
      Floats sums[kQueries];
      for (int64_t q = 0; q < queries; ++q) sums[q] = get(out + (first + q) * head_dim + i);
      for (int64_t t = 0; t < num_tokens; ++t) {
        const Floats value = get(values + t * head_dim + i);
        for (int64_t q = 0; q < queries; ++q) sums[q] += value * probabilities[(first + q) * probability_stride + t];
      }
      for (int64_t q = 0; q < queries; ++q) put(out + (first + q) * head_dim + i, sums[q]);
    });
  }
}

template <class T>
void attend(const CacheAttention<T>& a) {
  const int64_t num_tokens = a.num_tokens - a.first_token;
  float* const scores = a.scratch;
  float* const out = scores + a.num_queries * num_tokens;
  // calls body(page, first token within it, number of tokens, index of the first among the scores)
  const auto for_pages = [&](auto body) {
    for (int64_t token = a.first_token; token < a.num_tokens;) {
      const int64_t within = token % a.page_tokens, count = std::min(a.page_tokens - within, a.num_tokens - token);
      body(a.pages[token / a.page_tokens], within, count, token - a.first_token);
      token += count;
    }
  };
  for_pages([&](const T* page, int64_t within, int64_t count, int64_t index) {
    sum_products<PlainTerms<T>>(
        a.queries, a.head_dim, a.num_queries, page + within * a.head_dim, a.head_dim, count, a.head_dim,
        [&](int64_t query, int64_t token, float sum) { scores[query * num_tokens + index + token] = sum * a.scale; });
  });
  for (int64_t query = 0; query < a.num_queries; ++query)
    kFloatKernels.capped_softmax(scores + query * num_tokens, num_tokens, a.cap,
                                 a.sinks != nullptr ? a.sinks[query] : -std::numeric_limits<float>::infinity());
  std::fill_n(out, a.num_queries * a.head_dim, 0.0f);
  for_pages([&](const T* page, int64_t within, int64_t count, int64_t index) {
    add_values(scores + index, num_tokens, a.num_queries, page + a.value_offset + within * a.head_dim, count,
               a.head_dim, out);
  });
  for_lanes(a.num_queries * a.head_dim, [&](auto get, auto put, int64_t i) { put(a.out + i, get(out + i)); });
}

int64_t largest(const float* x, int64_t n) {
  Floats mosts = broadcast(-std::numeric_limits<float>::infinity());
  Ints are_nan{};
  for_lanes(n, [&](auto get, auto, int64_t i) {
    const Floats values = get(x + i, -std::numeric_limits<float>::infinity());
    mosts = max_of(mosts, values);
    are_nan |= values != values;
  });
  for (int64_t lane = 0; lane < kLanes; ++lane)
    if (are_nan[lane] != 0) return -1;
  return std::find(x, x + n, max_lanes(mosts)) - x;
}

float exponentials(const float* x, int64_t n, float most, float factor, float* y) {
  Floats sums{};
  for_lanes(n, [&](auto get, auto put, int64_t i) {
    const Floats exponent = (get(x + i, most - 1.0e6f) - most) * factor;
    const Floats e = exponent > -85.0f ? exp_of(exponent) : Floats{};
    sums += e;
    put(y + i, e);
  });
  return fold(sums);
}

#define PLUMB_NAME_OF(isa) #isa
#define PLUMB_NAME(isa) PLUMB_NAME_OF(isa)

}  // namespace

extern const SamplingKernels kSamplingKernels = {&largest, &exponentials};
extern const DecodeKernels<float> kFloatDecodeKernels = {&multiply_rows<PlainTerms<float>>, &attend<float>,
                                                         PLUMB_NAME(PLUMB_ISA)};
extern const DecodeKernels<BFloat16> kBFloat16DecodeKernels = {&multiply_rows<PlainTerms<BFloat16>>, &attend<BFloat16>,
                                                               PLUMB_NAME(PLUMB_ISA)};

}  // namespace plumb::PLUMB_ISA
