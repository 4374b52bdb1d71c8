#include "partition/padded_rows.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

PaddedRows::PaddedRows(const MicroBatch& batch, at::ScalarType dtype)
    : token_ids(batch.token_ids), document_begin(batch.document_begin), prefix_length(batch.prefix_length) {
  const int64_t num_rows = round_up_rows(batch.num_tokens(), dtype == at::kFloat ? 4 : 2);
  if (num_rows == batch.num_tokens()) return;
  token_ids.resize(num_rows, 0);
  document_begin.push_back(num_rows);
  if (!prefix_length.empty()) prefix_length.push_back(0);
}

at::Tensor pad_gradient(const at::Tensor& gradient_TD, int64_t num_rows) {
  const int64_t num_tokens = gradient_TD.size(0);
  if (num_tokens == num_rows) return gradient_TD;
  at::Tensor padded = at::empty({num_rows, gradient_TD.size(1)}, gradient_TD.options());
  padded.narrow(0, 0, num_tokens).copy_(gradient_TD);
  padded.narrow(0, num_tokens, num_rows - num_tokens).zero_();
  return padded;
}

at::Tensor rows_to_compute(const std::optional<std::vector<int64_t>>& read_rows, int64_t num_rows,
                           at::ScalarType dtype) {
  if (!read_rows) return {};
  std::vector<int64_t> rows = *read_rows;
  if (rows.empty()) rows.push_back(0);
  if (round_up_rows(std::ssize(rows), dtype == at::kFloat ? 4 : 2) >= num_rows) return {};
  return at::from_blob(rows.data(), {std::ssize(rows)}, at::TensorOptions().dtype(at::kLong)).clone();
}

void add_embedding_gradient(const at::Tensor& gradient_TD, const std::vector<int64_t>& token_ids, int64_t num_tokens,
                            const at::Tensor& gradient_VD) {
  const int64_t dim = gradient_TD.size(1);
  with_element_type(gradient_TD.scalar_type(), [&]<class T>(T*) {
    float* vocabulary_rows = data_of<float>(gradient_VD);
    for (int64_t t = 0; t < num_tokens; ++t)
      activation_kernels<T>().add_to_float(data_of<T>(gradient_TD) + t * dim, vocabulary_rows + token_ids[t] * dim,
                                           dim);
  });
}

}  // namespace plumb
