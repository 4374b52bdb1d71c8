#include "lib/nn/padded_rows.hpp"

#include <ATen/ops/empty.h>

#include "lib/nn/tensor_ops.hpp"

namespace plumb {

static int64_t round_up_rows(int64_t rows, at::ScalarType dtype, at::Device device) {
  return ops_of(device).round_up_rows(rows, static_cast<int64_t>(at::elementSize(dtype)));
}

PaddedRows::PaddedRows(const MicroBatch& batch, at::ScalarType dtype, at::Device device)
    : token_ids(batch.token_ids), document_begin(batch.document_begin), prefix_length(batch.prefix_length) {
  const int64_t num_rows = round_up_rows(batch.num_tokens(), dtype, device);
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

at::Tensor rows_to_compute(const std::optional<std::vector<int64_t>>& read_rows, int64_t num_rows, at::ScalarType dtype,
                           at::Device device) {
  if (!read_rows) return {};
  std::vector<int64_t> rows = *read_rows;
  if (rows.empty()) rows.push_back(0);
  if (round_up_rows(std::ssize(rows), dtype, device) >= num_rows) return {};
  return as_tensor(rows).clone();
}

}  // namespace plumb
