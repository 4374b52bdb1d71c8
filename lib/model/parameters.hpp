// The parameters of a decoder and the place of each in the flat buffer of its unit. A unit is gathered at once: one
// decoder block, the embedding, or the head with its norm; a tied embedding and head are one unit that is used twice.
// Matrices that multiply the same input are adjacent (q,k,v and gate,up), so that they form one matrix product.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/model/model_config.hpp"

namespace plumb {

/// Parameters start at multiples of this many elements: 128 bytes in bfloat16, 256 bytes in float32.
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
  // Some families only. New kinds go to the end: the number of a kind selects its random initial values.
  kQkv,     // q, k and v as one matrix of the checkpoint
  kGateUp,  // gate and up as one matrix of the checkpoint
  kAttentionOutNorm,
  kFeedForwardOutNorm,
  kInputNormBias,
  kPostNormBias,
  kFinalNormBias,
  kGateBias,
  kUpBias,
  kDownBias,
  kSinks,
  kRouter,
  kRouterBias,
  kExpertGate,  // of one expert: Parameter::expert
  kExpertUp,
  kExpertDown,
  kExpertsGateUp,  // of all experts of a layer, [experts, in, out], gate and up alternating (gpt-oss)
  kExpertsGateUpBias,
  kExpertsDown,
  kExpertsDownBias,
  kSharedGate,
  kSharedUp,
  kSharedDown,
  kSharedRouter,
};

bool is_norm_weight(ParameterKind kind);

/// True for the matrices of a decoder block, which adapters adapt and NF4 quantizes; routers are none.
bool is_block_matrix(ParameterKind kind);

/// True for a matrix of one of many experts.
bool is_expert_matrix(ParameterKind kind);

/// The parts of an adapter for one parameter (lora.hpp).
enum class AdapterPart {
  kWhole,      // the parameter itself, of a base model or of an adapter that trains it (modules_to_save)
  kLoraA,      // [rank, in]
  kLoraB,      // [out, rank]
  kMagnitude,  // [out], DoRA
  kRows,       // [tokens, hidden], rows of embedding or head that are trained in place of the base's
};

/// The spelling of tensor names, where families name the same parameter differently (io/huggingface/parameter_names).
enum class Naming { kLlama, kGemma, kGlm, kStarCoder, kMixtral, kGptOss };
Naming naming_of(const ModelConfig& config);

struct Parameter {
  ParameterKind kind;
  int64_t layer;               // -1 outside the blocks
  std::vector<int64_t> shape;  // [out, in] or [n]
  int64_t offset;              // first element, within the unit
  AdapterPart part = AdapterPart::kWhole;
  Naming naming = Naming::kLlama;
  int64_t expert = -1;  // -1: not of one expert
  int64_t num_elements() const {
    int64_t n = 1;
    for (int64_t size : shape) n *= size;
    return n;
  }
  /// Weight decay does not apply to norms and biases, as in transformers.
  bool is_decayed() const;
};

struct UnitLayout {
  std::string name;  // "embedding", "block.3", "head", "embedding+head"
  std::vector<Parameter> parameters;
  int64_t num_elements = 0;  // with alignment gaps, without the padding of sharding
};

/// The units in forward order: embedding, blocks, head; or, if tied, embedding+head, blocks.
std::vector<UnitLayout> unit_layouts(const ModelConfig& config);

/// The matrices of one block, in the order of the unit, without those of experts.
std::vector<ParameterKind> block_matrices(const ModelConfig& config, int64_t layer);

/// The number of parameters of the model, without gaps.
int64_t num_parameters(const std::vector<UnitLayout>& units);

}  // namespace plumb
