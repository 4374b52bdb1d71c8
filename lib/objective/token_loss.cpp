#include "lib/objective/token_loss.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "lib/model/tensor_kernels.hpp"

namespace plumb {

namespace {

constexpr int64_t kChunkBytes = 16 << 20;              // of logits: about what stays in a core's share of the caches
constexpr int64_t kVocabularySliceElements = 1 << 20;  // of the head's gradient, per product

int64_t chunk_rows(int64_t num_targets, int64_t vocab, int64_t element_bytes) {
  return std::min(num_targets, std::max<int64_t>(16, kChunkBytes / (vocab * element_bytes)));
}

/// The first rows of a buffer that is enlarged when it is too small.
at::Tensor reuse(at::Tensor& buffer, int64_t rows, int64_t columns, const at::TensorOptions& options) {
  if (!buffer.defined() || buffer.size(1) != columns || buffer.size(0) < rows ||
      buffer.scalar_type() != options.dtype())
    buffer = at::empty({rows, columns}, options);
  return buffer.narrow(0, 0, rows);
}

/// gradient += dlogits^T x, or = on the first chunk. In float32 the product adds in place; bfloat16 products are
/// rounded once per chunk and added in float32, a slice of the vocabulary at a time.
void add_head_gradient(const at::Tensor& dlogits, const at::Tensor& x, bool is_first, const at::Tensor& gradient,
                       at::Tensor& product_buffer) {
  if (x.scalar_type() == at::kFloat) {
    at::Tensor target = gradient;
    if (is_first) {
      at::mm_out(target, dlogits.t(), x);
    } else {
      target.addmm_(dlogits.t(), x);
    }
    return;
  }
  const int64_t vocab = gradient.size(0), dim = gradient.size(1);
  const int64_t slice = std::max<int64_t>(16, kVocabularySliceElements / dim);
  const at::Tensor product = reuse(product_buffer, std::min(slice, vocab), dim, x.options());
  for (int64_t begin = 0; begin < vocab; begin += slice) {
    const int64_t rows = std::min(slice, vocab - begin);
    at::Tensor part = product.narrow(0, 0, rows);
    at::mm_out(part, dlogits.narrow(1, begin, rows).t(), x);
    const auto add = is_first ? activation_kernels<BFloat16>().to_float : activation_kernels<BFloat16>().add_to_float;
    add(data_of<BFloat16>(part), data_of<float>(gradient) + begin * dim, rows * dim);
  }
}

}  // namespace

Targets find_targets(const MicroBatch& batch) {
  Targets targets;
  for (int64_t document = 0; document < batch.num_documents(); ++document) {
    const auto begin = static_cast<size_t>(batch.document_begin[static_cast<size_t>(document)]);
    const auto end = static_cast<size_t>(batch.document_begin[static_cast<size_t>(document) + 1]);
    for (size_t t = begin + 1; t < end; ++t) {
      if (!batch.loss_mask[t]) continue;
      targets.positions.push_back(static_cast<int64_t>(t) - 1);
      targets.labels.push_back(batch.token_ids[t]);
    }
  }
  return targets;
}

TokenLossResult token_loss(const at::Tensor& hidden_TD, const Targets& targets, const HeadTensors& parameters,
                           double norm_epsilon, TokenLoss kind, double gradient_scale, const HeadTensors& gradients,
                           TokenLossScratch& scratch) {
  const bool has_gradients = gradient_scale != 0;
  const auto num_targets = static_cast<int64_t>(targets.labels.size());
  const int64_t dim = hidden_TD.size(1), vocab = parameters.head_VD.size(0);
  TokenLossResult result;
  result.stats.resize(targets.labels.size());
  if (has_gradients) result.dhidden_TD = at::zeros_like(hidden_TD);
  if (num_targets == 0) {
    if (has_gradients) gradients.head_VD.zero_(), gradients.norm_D.zero_();
    return result;
  }
  const at::Tensor positions = at::from_blob(const_cast<int64_t*>(targets.positions.data()), {num_targets},
                                             at::TensorOptions().dtype(at::kLong));
  const at::Tensor selected = at::index_select(hidden_TD, 0, positions);
  const at::Tensor rstd = at::empty({num_targets}, at::TensorOptions().dtype(at::kFloat));
  const at::Tensor normed = at::empty_like(selected);
  with_element_type(hidden_TD.scalar_type(), [&]<class T>(T*) {
    const auto& kernels = activation_kernels<T>();
    kernels.rms_norm(data_of<T>(selected), nullptr, nullptr, data_of<T>(parameters.norm_D), data_of<T>(normed),
                     data_of<float>(rstd), num_targets, dim, static_cast<float>(norm_epsilon));
    const int64_t chunk = chunk_rows(num_targets, vocab, static_cast<int64_t>(sizeof(T)));
    const at::Tensor logits = reuse(scratch.logits, chunk, vocab, hidden_TD.options());
    const at::Tensor dnormed = has_gradients ? at::empty_like(normed) : at::Tensor();
    for (int64_t begin = 0; begin < num_targets; begin += chunk) {
      const int64_t rows = std::min(chunk, num_targets - begin);
      const at::Tensor x = normed.narrow(0, begin, rows);
      at::Tensor part = logits.narrow(0, 0, rows);
      at::mm_out(part, x, parameters.head_VD.t());
      kernels.cross_entropy(data_of<T>(part), targets.labels.data() + begin, rows, vocab, kind,
                            static_cast<float>(gradient_scale), result.stats.data() + begin);
      if (!has_gradients) continue;
      at::Tensor dx = dnormed.narrow(0, begin, rows);
      at::mm_out(dx, part, parameters.head_VD);
      add_head_gradient(part, x, begin == 0, gradients.head_VD, scratch.product);
    }
    if (!has_gradients) return;
    gradients.norm_D.zero_();
    const at::Tensor dselected = at::empty_like(selected);
    kernels.rms_norm_backward(data_of<T>(dnormed), data_of<T>(selected), data_of<float>(rstd),
                              data_of<T>(parameters.norm_D), nullptr, data_of<T>(dselected),
                              data_of<float>(gradients.norm_D), num_targets, dim);
    result.dhidden_TD.index_copy_(0, positions, dselected);
  });
  return result;
}

int64_t token_loss_bytes(int64_t num_tokens, int64_t hidden_size, int64_t vocab_size, int64_t element_bytes) {
  const int64_t rows = num_tokens * hidden_size * element_bytes;
  // in bfloat16 also a slice of the gradient, and the head once more: oneDNN packs it for its product
  const int64_t product =
      element_bytes == 4 ? 0 : (kVocabularySliceElements + vocab_size * hidden_size) * element_bytes;
  // hidden and its gradient, selected, normed and their gradients; one chunk of logits
  return 6 * rows + chunk_rows(num_tokens, vocab_size, element_bytes) * vocab_size * element_bytes + product;
}

}  // namespace plumb
