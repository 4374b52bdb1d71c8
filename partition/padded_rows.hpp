// The rows that go through the blocks: the documents of a micro-batch, and behind them, in bfloat16, rows of no meaning
// as one document more, so that products have few different sizes. Their gradient is zero.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "lib/model/batch.hpp"

namespace plumb {

struct PaddedRows {
  std::vector<int64_t> token_ids, document_begin, prefix_length;

  PaddedRows(const MicroBatch& batch, at::ScalarType dtype);
};

/// The gradient of the documents' rows, with zeros for those behind them.
at::Tensor pad_gradient(const at::Tensor& gradient_TD, int64_t num_rows);

/// gradient_VD (float32) += rows of gradient_TD, each to the row of its token. num_tokens: those of documents.
void add_embedding_gradient(const at::Tensor& gradient_TD, const std::vector<int64_t>& token_ids, int64_t num_tokens,
                            const at::Tensor& gradient_VD);

}  // namespace plumb
