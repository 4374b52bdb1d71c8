#include "lib/nn/decode_ops.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "lib/kernels/decode_kernels.hpp"
#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

constexpr int64_t kPartOutputs = 32;        // threads take multiples of these
constexpr int64_t kPartElements = 1 << 15;  // of weights, about ten microseconds of reading

}  // namespace

at::Tensor multiply_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  check(x.is_cpu() && x.is_contiguous() && weight.is_contiguous() && x.size(1) == weight.size(1),
        "rows and weights are contiguous and fit");
  const int64_t outputs = weight.size(0), depth = weight.size(1);
  at::Tensor y = at::empty({x.size(0), outputs}, x.options());
  const int64_t num_parts = (outputs + kPartOutputs - 1) / kPartOutputs;
  const int64_t grain = std::max<int64_t>(1, kPartElements / (kPartOutputs * std::max<int64_t>(1, depth)));
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    at::parallel_for(0, num_parts, grain, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kPartOutputs, last = std::min(outputs, end * kPartOutputs);
      const T* const biases = data_of<T>(bias);
      decode_kernels<T>().multiply_rows({data_of<T>(x), depth, data_of<T>(weight) + first * depth,
                                         biases == nullptr ? nullptr : biases + first, data_of<T>(y) + first, outputs,
                                         x.size(0), last - first, depth});
    });
  });
  return y;
}

at::Tensor empty_page(const AttentionShape& shape, int64_t num_layers, at::TensorOptions options) {
  return at::empty({num_layers, 2, shape.num_kv_heads, kPageTokens, shape.head_dim}, options);
}

void write_cache(const AttentionShape& shape, int64_t layer, const at::Tensor& qkv, const CachedText& text,
                 int64_t first_token) {
  const int64_t g = shape.num_kv_heads, k = shape.head_dim, columns = (shape.num_heads + 2 * g) * k;
  check(qkv.is_cpu() && qkv.size(1) == columns && qkv.stride(1) == 1, "rows of queries, keys and values");
  with_element_type(qkv.scalar_type(), [&]<class T>(T*) {
    for (int64_t i = 0; i < qkv.size(0); ++i) {
      const int64_t token = first_token + i;
      const T* from = data_of<T>(qkv) + i * qkv.stride(0) + shape.num_heads * k;
      T* to = data_of<T>(text.pages[token / kPageTokens]) + (layer * 2 * g * kPageTokens + token % kPageTokens) * k;
      for (int64_t head = 0; head < 2 * g; ++head) std::copy_n(from + head * k, k, to + head * kPageTokens * k);
    }
  });
}

at::Tensor attend_to_cache(const AttentionShape& shape, int64_t layer, const at::Tensor& qkv,
                           std::span<const CachedText* const> texts) {
  const int64_t h = shape.num_heads, g = shape.num_kv_heads, k = shape.head_dim, queries = h / g;
  check(qkv.is_cpu() && qkv.size(0) == std::ssize(texts) && qkv.is_contiguous(), "a row for each text");
  const at::Tensor out = at::empty({qkv.size(0), h * k}, qkv.options());
  with_element_type(qkv.scalar_type(), [&]<class T>(T*) {
    at::parallel_for(0, std::ssize(texts) * g, 1, [&](int64_t begin, int64_t end) {
      std::vector<const T*> pages;
      std::vector<float> scratch;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i / g, head = i % g, num_tokens = texts[row]->num_tokens;
        const int64_t window = shape.sliding_window;
        pages.clear();
        for (const at::Tensor& page : texts[row]->pages)
          pages.push_back(data_of<T>(page) + (layer * 2 * g + head) * kPageTokens * k);
        CacheAttention<T> attention = {.queries = data_of<T>(qkv) + row * qkv.size(1) + head * queries * k,
                                       .num_queries = queries,
                                       .head_dim = k,
                                       .pages = pages.data(),
                                       .page_tokens = kPageTokens,
                                       .value_offset = g * kPageTokens * k,
                                       .first_token = window > 0 ? std::max<int64_t>(0, num_tokens - window) : 0,
                                       .num_tokens = num_tokens,
                                       .scale = static_cast<float>(shape.scale()),
                                       .cap = static_cast<float>(shape.score_cap),
                                       .sinks = shape.sinks_H == nullptr ? nullptr : shape.sinks_H + head * queries,
                                       .scratch = nullptr,
                                       .out = data_of<T>(out) + row * h * k + head * queries * k};
        scratch.resize(std::max(std::ssize(scratch), attention.scratch_floats()));
        attention.scratch = scratch.data();
        decode_kernels<T>().attend(attention);
      }
    });
  });
  return out;
}

}  // namespace plumb
