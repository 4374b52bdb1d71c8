// Which parameters a decoder has and where each lies in the flat buffer of its unit. A unit is what is gathered at
// once: one decoder block, the embedding, or the head with its norm; tied embedding and head are one unit used twice.
// Matrices that multiply the same input lie next to each other (q,k,v and gate,up), so that they are one matrix
// product.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/model/model_config.hpp"

namespace plumb {

/// Parameters start at multiples of this many elements: 128 bytes in bfloat16, 256 in float32.
inline constexpr int64_t kParameterAlignment = 64;

enum class ParameterKind {
  kEmbedding,
  kInputNorm,
  kQ,
  kK,
  kV,
  kQBias,
  kKBias,
  kVBias,
  kQNorm,
  kKNorm,
  kO,
  kOBias,
  kPostNorm,
  kGate,
  kUp,
  kDown,
  kFinalNorm,
  kHead,
  kScore,
};

/// A matrix of a decoder block: what adapters adapt and NF4 quantizes.
bool is_block_matrix(ParameterKind kind);

/// What an adapter holds of the parameter that it adapts (lora.hpp).
enum class AdapterPart {
  kWhole,      // the parameter itself: of a base model, or in an adapter that trains it (modules_to_save)
  kLoraA,      // [rank, in]
  kLoraB,      // [out, rank]
  kMagnitude,  // [out], of DoRA
};

struct Parameter {
  ParameterKind kind;
  int64_t layer;               // -1 outside the blocks
  std::vector<int64_t> shape;  // [out, in] or [n]
  int64_t offset;              // first element within the unit
  AdapterPart part = AdapterPart::kWhole;
  int64_t num_elements() const {
    int64_t n = 1;
    for (int64_t size : shape) n *= size;
    return n;
  }
  /// Weight decay spares norms and biases, as transformers does.
  bool is_decayed() const { return shape.size() > 1 || part == AdapterPart::kMagnitude; }
};

struct UnitLayout {
  std::string name;  // "embedding", "block.3", "head", "embedding+head"
  std::vector<Parameter> parameters;
  int64_t num_elements = 0;  // with the gaps of alignment, without the padding of sharding
};

/// Units in forward order: embedding, blocks, head; or embedding+head, blocks when the two share a matrix.
std::vector<UnitLayout> unit_layouts(const ModelConfig& config);

/// Parameters of the model, gaps not counted.
int64_t num_parameters(const std::vector<UnitLayout>& units);

}  // namespace plumb
