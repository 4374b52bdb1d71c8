// The frozen base under adapters: parameters without gradients, in the dtype of the activations or, for matrices, in
// NF4. On one node of CPUs all ranks share one copy in memory, and a gather is a pointer into it. On several nodes, and
// on GPUs, each rank holds 1/N of the bytes of every unit, and units are gathered as in ZeRO-3.
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
#include "partition/placement.hpp"

namespace plumb {

/// Storage format of one NF4 matrix. original_dtype: values are rounded to it when dequantized.
struct Nf4Format {
  Nf4Layout layout;
  Dtype original_dtype = Dtype::kF32;
};

/// One unit as bytes: the plain parameters as a flat buffer, followed by the quantized matrices.
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

/// The frozen units under `adapter`: all units of the model without the parameters that the adapter trains in full.
/// nf4_format: the format of a parameter, or nullopt if it is plain. A product of which only some parameters are
/// quantized stays plain.
std::vector<FrozenUnit> frozen_units(const ModelConfig& config, const Adapter& adapter, int64_t element_bytes,
                                     const std::function<std::optional<Nf4Format>(const Parameter&)>& nf4_format);

/// NF4 with quantized scales (double quantization) for every matrix of a block, nullopt for other parameters.
std::optional<Nf4Format> nested_nf4(const Parameter& parameter);

/// Memory of a FrozenBase, and its traffic per micro-batch, in bytes.
struct FrozenBaseBytes {
  int64_t resident = 0;        // one node: all units, per node
  int64_t shards = 0;          // several nodes: per rank
  int64_t gather_buffers = 0;  // several nodes: per node
  int64_t scratch = 0;         // per rank: the largest quantized product, dequantized
  int64_t num_gathers = 0;
  int64_t gathered = 0;  // on the wire
};
FrozenBaseBytes frozen_base_bytes(const ModelConfig& config, const std::vector<FrozenUnit>& units, int num_ranks,
                                  bool is_one_node, int64_t element_bytes, int64_t lowest_layer);

/// Callbacks that read the values of the base.
struct FrozenSource {
  /// Elements [begin, end) of a flat buffer with this layout.
  std::function<void(const UnitLayout& layout, int64_t begin, int64_t end, std::span<float> out)> read_plain;
  /// All bytes of a quantized parameter, in the layout of its Nf4Format.
  std::function<void(const Parameter& parameter, std::span<std::byte> bytes)> read_nf4;
};

class FrozenBase {
 public:
  /// Collective: allocates. lowest_layer: the backward pass stops after this layer; num_layers means that it enters no
  /// block.
  FrozenBase(const ModelConfig& config, const Communicator& comm, at::ScalarType dtype, std::vector<FrozenUnit> units,
             int64_t lowest_layer, const Placement& placement = {});

  /// Local: reads this rank's bytes. A barrier must follow before the first operation.
  void load(const FrozenSource& source);

  /// Collective: makes every unit available on every node, for passes that ranks make each by themselves. On several
  /// nodes each allocates a copy of all units, once. No operation may be in progress.
  void make_resident();
  /// The unit's bytes after make_resident().
  at::Tensor resident_bytes(int unit) const;

  // Operations in order: units of the forward pass, then blocks from the last down to lowest_layer. Each is started,
  // finished and released in that order, at most one ahead.

  void start(int operation);
  /// Returns the unit's bytes, valid until release().
  at::Tensor finish(int operation);
  void release();

  /// The block's parameters without adapters, as views of `bytes`. All quantized matrices share one scratch buffer.
  BlockParameters block(int unit, const at::Tensor& bytes) const;
  /// The frozen parameters of the head; those that are trained are undefined.
  HeadTensors head(int unit, const at::Tensor& bytes) const;
  at::Tensor embedding_VD(const at::Tensor& bytes) const;

  int64_t num_bytes() const;  // all units, one copy

 private:
  ElementRange my_bytes(size_t unit) const { return layouts_[unit].shard(comm_.rank()); }
  /// This rank's bytes of the unit, where they are kept.
  at::Tensor shard(size_t unit) const;
  at::Tensor plain(int unit, const at::Tensor& bytes) const;

  const Communicator& comm_;
  at::ScalarType dtype_;
  std::vector<FrozenUnit> units_;
  std::vector<ShardLayout> layouts_;      // in bytes
  std::vector<int> operations_;           // the unit of each operation
  std::vector<int64_t> offset_bytes_;     // of each shard in shards_
  std::unique_ptr<NodeMemory> resident_;  // whole units: one copy per node; else only after make_resident()
  std::vector<int64_t> resident_offset_bytes_;
  at::Tensor shards_;                   // where units are gathered: this rank's shards, on its device
  std::unique_ptr<Exchange> exchange_;  // where units are gathered
  at::Tensor scratch_;                  // for dequantized matrices
};

}  // namespace plumb
