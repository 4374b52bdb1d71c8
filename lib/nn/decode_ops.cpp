#include "lib/nn/decode_ops.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "lib/kernels/decode_kernels.hpp"
#include "lib/nn/matmul.hpp"
#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

constexpr int64_t kPartOutputs = 32;        // threads take multiples of these
constexpr int64_t kPartElements = 1 << 15;  // of weights, about ten microseconds of reading
constexpr int64_t kDequantizedElements = 1
                                         << 17;  // at a time: more than once for the same rows of x, less than a cache

/// Rows [first, last) of one layer of a matrix in NF4, and the first output that they give.
struct QuantizedPart {
  const Nf4View* layer;
  int64_t first, last, first_output;
};

std::vector<QuantizedPart> parts_of(const QuantizedRows& weight) {
  const int64_t rows_at_once =
      std::max(kPartOutputs, kDequantizedElements / weight.num_columns / kPartOutputs * kPartOutputs);
  std::vector<QuantizedPart> parts;
  int64_t output = 0;
  for (const Nf4View& layer : weight.layers) {
    const int64_t num_rows = layer.layout.num_elements / weight.num_columns;
    for (int64_t first = 0; first < num_rows; first += rows_at_once)
      parts.push_back({&layer, first, std::min(first + rows_at_once, num_rows), output + first});
    output += num_rows;
  }
  return parts;
}

void dequantize(const Nf4View& layer, int64_t begin, std::span<float> out) { nf4_dequantize(layer, begin, out); }
void dequantize(const Nf4View& layer, int64_t begin, std::span<BFloat16> out) {
  nf4_dequantize_bf16(layer, begin, {reinterpret_cast<uint16_t*>(out.data()), out.size()});
}

/// Both products give a row the same bits in any batch; one is made for many rows, the other for few.
at::Tensor multiply_plain(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, bool has_many_rows) {
  if (!has_many_rows || x.scalar_type() != at::kFloat) return multiply_rows(x, weight, bias);
  at::Tensor y = product(x, weight.t());
  return bias.defined() ? y.add_(bias) : y;
}

at::Tensor multiply_base(const Linear& linear, const at::Tensor& x, const at::Tensor& bias, bool has_many_rows) {
  if (!linear.weight_OI.defined() && !has_many_rows) return multiply_rows(x, linear.quantized, bias);
  return multiply_plain(x, linear.weight().contiguous(), bias, has_many_rows);  // those of gpt-oss are transposed
}

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

at::Tensor multiply_rows(const at::Tensor& x, const QuantizedRows& weight, const at::Tensor& bias) {
  check(x.is_cpu() && x.is_contiguous() && x.size(1) == weight.num_columns, "rows are contiguous and fit");
  const int64_t depth = weight.num_columns;
  at::Tensor y = at::empty({x.size(0), weight.num_rows}, x.options());
  const std::vector<QuantizedPart> parts = parts_of(weight);
  with_element_type(x.scalar_type(), [&]<class T>(T*) {
    at::parallel_for(0, std::ssize(parts), 1, [&](int64_t begin, int64_t end) {
      std::vector<T> rows;
      for (int64_t i = begin; i < end; ++i) {
        const QuantizedPart& part = parts[i];
        rows.resize((part.last - part.first) * depth);
        dequantize(*part.layer, part.first * depth, std::span(rows));
        const T* const biases = data_of<T>(bias);
        decode_kernels<T>().multiply_rows(
            {data_of<T>(x), depth, rows.data(), biases == nullptr ? nullptr : biases + part.first_output,
             data_of<T>(y) + part.first_output, weight.num_rows, x.size(0), part.last - part.first, depth});
      }
    });
  });
  return y;
}

at::Tensor multiply_linear(const Linear& linear, const at::Tensor& x, bool has_many_rows) {
  const LoraGroup& lora = linear.lora;
  if (lora.modules.empty()) return multiply_base(linear, x, linear.bias_O, has_many_rows);
  const bool has_scales = lora.modules.front().row_scales.defined();  // of everything but the bias
  check(has_scales == lora.modules.front().magnitude.defined(), "DoRA's scales are known");
  at::Tensor y = multiply_base(linear, x, has_scales ? at::Tensor() : linear.bias_O, has_many_rows);
  const at::Tensor xa = multiply_plain(x, lora.a_RI.contiguous(), {}, has_many_rows);
  for (const LoraGroup::Module& module : lora.modules) {
    at::Tensor part = y.narrow(1, module.first_output, module.num_outputs);
    const at::Tensor of_module = xa.narrow(1, module.first_rank, module.rank).contiguous();
    const at::Tensor b = module.b.contiguous();  // that of an expert is strided
    part.add_(multiply_plain(of_module, b, {}, has_many_rows), module.scaling);
    if (has_scales) part.mul_(module.row_scales);
  }
  if (has_scales && linear.bias_O.defined()) y.add_(linear.bias_O);
  return y;
}

at::Tensor multiply_head(const HeadTensors& head, const at::Tensor& normed) {
  const auto multiply = [&](const at::Tensor& x, const at::Tensor& weight) {
    return multiply_rows(x, weight).to(at::kFloat);
  };
  at::Tensor y = multiply(normed, head.head_VD);
  const VocabularyAdapter& adapter = head.adapter;
  if (adapter.left_VR.defined())
    y.add_(multiply(multiply_rows(normed, adapter.right_RD), adapter.left_VR), adapter.scaling);
  if (adapter.rows_ND.defined()) y.index_copy_(1, as_tensor(adapter.tokens), multiply(normed, adapter.rows_ND));
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
