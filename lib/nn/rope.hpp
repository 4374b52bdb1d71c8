// Rotary position embedding: the tables of cosines and sines, with the scalings of Llama 3 and linear interpolation.
// Source: RoFormer, arXiv:2104.09864; scaling as in transformers' modeling_rope_utils.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/model/model_config.hpp"

namespace plumb {

/// Frequency of each of the head_dim / 2 pairs, in radians per position.
std::vector<float> rope_frequencies(const ModelConfig& config);

/// One row of head_dim / 2 values per token.
struct RopeTable {
  std::vector<float> cos, sin;
};

/// Positions count from the start of each document, from its prefix_length on (MicroBatch; empty: 0). document_begin
/// ends with the number of tokens.
RopeTable rope_table(std::span<const float> frequencies, std::span<const int64_t> document_begin,
                     std::span<const int64_t> prefix_length = {});

/// For one run of consecutive positions.
RopeTable rope_table_from(std::span<const float> frequencies, int64_t first_position, int64_t num_positions);

}  // namespace plumb
