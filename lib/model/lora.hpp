// Low-rank adapters: next to a frozen matrix W [out, in], two small ones are trained, A [rank, in] and B [out, rank],
// and the layer computes y = x W^T + scaling (x A^T) B^T. DoRA also trains the length of each row of W + scaling B A.
// This file defines which layers are adapted, and where each trained parameter is in the one flat buffer of the
// adapter, the unit "adapter". PEFT's names and files are in io/huggingface.
// Source: LoRA, arXiv:2106.09685; rsLoRA, arXiv:2312.03732; DoRA, arXiv:2402.09353.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

/// One adapted layer: a matrix of a block; or all experts of a layer, whose A are the rows of one matrix, and whose B
/// are the columns of one, by rank and then by expert, as in PEFT (target_parameters); or embedding or head, with layer
/// -1.
struct LoraTarget {
  ParameterKind kind;
  int64_t layer;
  int64_t rank;    // of experts: the sum of theirs
  double scaling;  // alpha / rank, or alpha / sqrt(rank) with rsLoRA
  bool operator==(const LoraTarget&) const = default;
};

/// Rows of the embedding or of the head that are trained in place of those of the base (trainable_token_indices).
struct AdapterRows {
  ParameterKind kind;
  std::vector<int64_t> tokens;  // different ones, in the order of the rows in the adapter
  bool operator==(const AdapterRows&) const = default;
};

struct Adapter {
  std::vector<LoraTarget> targets;   // of blocks, ordered by layer, then by kind; each layer once
  std::vector<ParameterKind> whole;  // kEmbedding, kHead, kScore: trained in full, from a copy of the base
  bool has_magnitudes = false;       // DoRA, on all targets
  double dropout = 0;                // on the input of A, in training only; the embedding has none
  // An embedding that is also the head has one adapter for both uses, with the embedding's kind.
  std::vector<LoraTarget> outer_targets = {};  // kEmbedding, kHead; each kind once
  std::vector<AdapterRows> rows = {};          // the same; a matrix is trained in one way only
  bool operator==(const Adapter&) const = default;
};

/// True if an adapter trains anything of the embedding.
bool trains_embedding(const Adapter& adapter);

/// The shape [out, in] of the matrix that a target adapts. The embedding is the product of a one-hot row with its
/// transpose, so that its A is [rank, vocabulary] and its B [hidden, rank], as in PEFT.
std::vector<int64_t> target_shape(const ModelConfig& config, ParameterKind kind);

/// All trained parameters as one unit. The A of layers with the same input (q,k,v and gate,up) are adjacent without
/// gaps, in that order, so that they form one matrix. `targets` and `whole` must belong to the model.
UnitLayout adapter_layout(const ModelConfig& config, const Adapter& adapter);

/// The lowest layer that the backward pass must reach; num_layers if it reaches no block.
int64_t lowest_trained_layer(const ModelConfig& config, const Adapter& adapter);

/// The matrix products of a block, in order. Layers with the same input share one.
enum class Product { kQkv, kO, kGateUp, kDown, kSharedGateUp, kSharedDown };
inline constexpr int kNumProducts = 6;
/// One value per product.
template <class T>
struct PerProduct : std::array<T, kNumProducts> {
  using Base = std::array<T, kNumProducts>;
  T& operator[](Product product) { return Base::operator[](static_cast<size_t>(product)); }
  const T& operator[](Product product) const { return Base::operator[](static_cast<size_t>(product)); }
  T& operator[](size_t product) { return Base::operator[](product); }
  const T& operator[](size_t product) const { return Base::operator[](product); }
};
Product product_of(ParameterKind kind);

/// True for the adapters of all experts of a layer.
bool is_of_experts(const LoraTarget& target);

}  // namespace plumb
