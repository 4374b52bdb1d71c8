// The rows that go through the blocks: the documents of a micro-batch and, in bfloat16, padding rows after them as one
// more document, so that products have few different sizes. The gradient of padding rows is zero.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/model/batch.hpp"

namespace plumb {

struct PaddedRows {
  std::vector<int64_t> token_ids, document_begin, prefix_length;

  /// As many rows as TensorOps::round_up_rows() of the device asks for.
  PaddedRows(const MicroBatch& batch, at::ScalarType dtype, at::Device device);
};

/// The gradient of the documents' rows, with zeros for the padding rows.
at::Tensor pad_gradient(const at::Tensor& gradient_TD, int64_t num_rows);

/// BlockContext::read_rows: undefined where nothing would be saved, and never of no rows. num_rows: of PaddedRows.
at::Tensor rows_to_compute(const std::optional<std::vector<int64_t>>& read_rows, int64_t num_rows, at::ScalarType dtype,
                           at::Device device);

}  // namespace plumb
