// Rotary position embedding: a table of cosines and sines by position, with the scalings of Llama 3 and of linear
// interpolation, and the positions of a micro-batch's rows.
// Source: RoFormer, arXiv:2104.09864; scaling as in transformers' modeling_rope_utils.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "lib/model/model_config.hpp"
#include "lib/nn/attention.hpp"

namespace plumb {

// T = tokens, P = positions that the table covers, K = head_dim.

/// Frequency of each of the head_dim / 2 pairs, in radians per position.
std::vector<float> rope_frequencies(const ModelConfig& config);

/// Cosines and sines of position x frequency, computed on the host, so that every device rotates by the same bits.
class RopeTable {
 public:
  explicit RopeTable(const ModelConfig& config) : frequencies_(rope_frequencies(config)) {}
  explicit RopeTable(std::vector<float> frequencies) : frequencies_(std::move(frequencies)) {}

  /// Extends the table to the positions [0, num_positions). Tensors returned before stay valid.
  void cover(int64_t num_positions);

  const at::Tensor& cos() const { return cos_; }  // float32 [P, K / 2]
  const at::Tensor& sin() const { return sin_; }

 private:
  std::vector<float> frequencies_;
  at::Tensor cos_, sin_;
};

/// Position of each row, int32 [T]: counted from 0 in each document, or from its prefix_length if it shares a prefix.
at::Tensor rope_positions(const Documents& documents);
/// The largest of these positions.
int64_t last_position(const Documents& documents);

}  // namespace plumb
