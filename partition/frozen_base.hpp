// The base under adapters: parameters that never change and have no gradient, in the dtype of the activations, or with
// matrices in NF4. On one node they lie once in memory that all its ranks share, and to gather a unit is to look at it.
// On several nodes each rank keeps 1/N of every unit's bytes, and they are gathered as in ZeRO-3.
// Source: ZeRO stage 3, arXiv:1910.02054; QLoRA, arXiv:2305.14314.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lib/model/lora.hpp"
#include "lib/model/nf4.hpp"
#include "lib/nn/block.hpp"
#include "lib/nn/model_units.hpp"
#include "partition/communicator.hpp"
#include "partition/exchange.hpp"
#include "partition/node_memory.hpp"

namespace plumb {

/// How a matrix is kept in NF4.
struct Nf4Format {
  Nf4Layout layout;
  Dtype original_dtype = Dtype::kF32;
};

/// One unit as bytes: the plain parameters as a flat buffer of their own, and behind it the quantized matrices.
struct FrozenUnit {
  struct Quantized {
    Parameter parameter;
    Nf4Format format;
    int64_t offset_bytes;
  };
  UnitLayout plain;
  std::vector<Quantized> quantized;
  int64_t num_bytes = 0;
};

/// What is frozen under `adapter`: all units of the model without the parameters that the adapter trains whole.
/// nf4_format: of a parameter that is quantized; a product of which only some layers are is kept plain.
std::vector<FrozenUnit> frozen_units(const ModelConfig& config, const Adapter& adapter, int64_t element_bytes,
                                     const std::function<std::optional<Nf4Format>(const Parameter&)>& nf4_format);

/// Of every matrix of a block: NF4 whose scales are quantized again.
std::optional<Nf4Format> nested_nf4(const Parameter& parameter);

/// What a FrozenBase takes, and has on the wire per micro-batch.
struct FrozenBaseBytes {
  int64_t resident = 0;  // per node: all units, if there is one node
  int64_t shards = 0;    // per rank, if there are several
  int64_t slots = 0;     // per node, if there are several
  int64_t scratch = 0;   // per rank: the largest quantized product, dequantized
  int64_t num_gathers = 0;
  int64_t gathered = 0;
};
FrozenBaseBytes frozen_base_bytes(const ModelConfig& config, const std::vector<FrozenUnit>& units, int num_ranks,
                                  bool is_one_node, int64_t element_bytes, int64_t lowest_layer);

/// Where the values come from.
struct FrozenSource {
  /// Elements [begin, end) of a flat buffer with this layout.
  std::function<void(const UnitLayout& layout, int64_t begin, int64_t end, std::span<float> out)> read_plain;
  std::function<void(const Parameter& parameter, std::span<std::byte> bytes)> read_nf4;
};

class FrozenBase {
 public:
  /// Collective. lowest_layer: the backward pass of a micro-batch goes down to this layer, or nowhere at num_layers.
  FrozenBase(const ModelConfig& config, const Communicator& comm, at::ScalarType dtype, std::vector<FrozenUnit> units,
             int64_t lowest_layer);

  /// Local, and to be followed by a barrier: reads this rank's bytes.
  void load(const FrozenSource& source);

  // Operations in order: units of the forward pass, then blocks from the last down to lowest_layer; one started ahead.

  void start(int operation);
  /// The unit's bytes, valid until release().
  at::Tensor finish(int operation);
  void release();

  /// Parameters of the block whose unit these bytes are, without adapters. Quantized matrices share one scratch.
  BlockParameters block(int unit, const at::Tensor& bytes) const;
  /// Head or embedding, whichever of them the unit holds frozen; others undefined.
  HeadTensors head(int unit, const at::Tensor& bytes) const;
  at::Tensor embedding_VD(const at::Tensor& bytes) const;

  int64_t num_bytes() const;  // of all units, once

 private:
  ElementRange my_bytes(size_t unit) const { return layouts_[unit].shard(comm_.rank()); }
  std::span<std::byte> shard(size_t unit);
  at::Tensor plain(int unit, const at::Tensor& bytes) const;

  const Communicator& comm_;
  at::ScalarType dtype_;
  std::vector<FrozenUnit> units_;
  std::vector<ShardLayout> layouts_;      // in bytes
  std::vector<int> operations_;           // unit of each
  std::vector<int64_t> offset_bytes_;     // of each unit or shard in what follows
  std::unique_ptr<NodeMemory> resident_;  // one node: whole units
  std::vector<std::byte> shards_;         // several nodes: this rank's shards
  std::unique_ptr<Exchange> exchange_;    // several nodes
  at::Tensor scratch_;                    // of dequantized matrices
};

}  // namespace plumb
