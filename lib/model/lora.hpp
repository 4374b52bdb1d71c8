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
/// are the columns of one, by rank and then by expert, as in PEFT (target_parameters).
struct LoraTarget {
  ParameterKind kind;
  int64_t layer;
  int64_t rank;    // of experts: the sum of theirs
  double scaling;  // alpha / rank, or alpha / sqrt(rank) with rsLoRA
  bool operator==(const LoraTarget&) const = default;
};

struct Adapter {
  std::vector<LoraTarget> targets;   // ordered by layer, then by kind; each layer once
  std::vector<ParameterKind> whole;  // kEmbedding, kHead, kScore: trained in full, from a copy of the base
  bool has_magnitudes = false;       // DoRA, on all targets
  double dropout = 0;                // on the input of A, in training only
  bool operator==(const Adapter&) const = default;
};

/// The shape [out, in] of the matrix that a target adapts.
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
