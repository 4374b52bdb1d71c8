// Rotary position embedding: tables of cosines and sines by position, and which row of them rotates each token. All
// scalings of transformers are here; those that depend on the length of a text (dynamic, longrope) take the length of
// the document, so that neither packing nor the other texts of a batch change it.
// Source: RoFormer, arXiv:2104.09864; scaling as in transformers' modeling_rope_utils; YaRN, arXiv:2309.00071;
// LongRoPE, arXiv:2402.13753.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lib/model/model_config.hpp"
#include "lib/nn/attention.hpp"
#include "lib/nn/tensor_ops.hpp"

namespace plumb {

// T = tokens, K = head_dim.

/// Frequency of each pair that rotates, in radians per position, for a text of `length` tokens.
std::vector<float> rope_frequencies(const RopeConfig& rope, const ModelConfig& config, int64_t length);

/// Factor of all cosines and sines.
float rope_amplitude(const RopeConfig& rope);

/// Cosines and sines of position x frequency, computed on the host, so that every device rotates by the same bits.
class RopeTable {
 public:
  RopeTable(const RopeConfig& rope, const ModelConfig& config);

  /// The rotation of each row of these documents: positions count from 0 in each document, or from its prefix_length
  /// if it shares a prefix.
  Rotation of_documents(const Documents& documents);
  /// The rotation of the last token of texts with these lengths.
  Rotation of_last_tokens(std::span<const int64_t> lengths);

 private:
  struct Table {
    at::Tensor cos, sin;  // float32 [positions, pairs]
  };
  /// The tokens of one text whose rotation is wanted.
  struct Positions {
    int64_t first, end;  // of the positions
    int64_t length;      // of the text
  };
  Table make(int64_t length, int64_t num_positions) const;
  Rotation rotation(const std::vector<Positions>& texts);

  RopeConfig rope_;
  ModelConfig config_;
  Table table_;  // of the kinds that do not depend on the length; grows
};

/// The tables of a model: of most layers and, where they differ, of the layers with a sliding window.
class ModelRope {
 public:
  explicit ModelRope(const ModelConfig& config);

  struct Rotations {
    Rotation full, sliding;
    /// Null: the layer does not rotate.
    const Rotation* of_layer(const ModelConfig& config, int64_t layer) const {
      const RopeConfig* rope = config.rope_of(layer);
      if (rope == nullptr) return nullptr;
      return rope == &config.rope ? &full : &sliding;
    }
  };
  Rotations of_documents(const Documents& documents);
  Rotations of_last_tokens(std::span<const int64_t> lengths);

 private:
  RopeTable full_;
  std::optional<RopeTable> sliding_;
};

}  // namespace plumb
