// The rows that pass through the blocks: the documents of a micro-batch and, in bfloat16, padding rows as one more
// document, so that matrix products have few different sizes. The gradient of padding rows is zero.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/model/batch.hpp"

namespace plumb {

struct PaddedRows {
  std::vector<int64_t> token_ids, document_begin, prefix_length;

  /// Pads to TensorOps::round_up_rows() rows.
  PaddedRows(const MicroBatch& batch, at::ScalarType dtype, at::Device device);
};

/// Appends zero rows for the padding: [T, D] to [num_rows, D].
at::Tensor pad_gradient(const at::Tensor& gradient_TD, int64_t num_rows);

/// The value of BlockContext::read_rows: undefined if skipping rows would save nothing, and never empty. num_rows: the
/// number of rows in PaddedRows.
at::Tensor rows_to_compute(const std::optional<std::vector<int64_t>>& read_rows, int64_t num_rows, at::ScalarType dtype,
                           at::Device device);

}  // namespace plumb
