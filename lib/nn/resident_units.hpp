// Units of a model that is in memory as a whole.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "lib/nn/model_units.hpp"

namespace plumb {

class ResidentUnits : public ModelUnits {
 public:
  /// units: the flat tensors of unit_layouts(config), in order, all of one dtype; their memory is shared.
  ResidentUnits(const ModelConfig& config, const std::vector<at::Tensor>& units);

  /// Matrices may be quantized or adapted. The adapters of embedding and head are contiguous.
  struct Parameters {
    at::Tensor embedding_VD;
    VocabularyAdapter embedding_adapter;
    std::vector<BlockParameters> blocks;
    HeadTensors head;
  };
  ResidentUnits(const ModelConfig& config, Parameters parameters);

  at::ScalarType dtype() const { return parameters_.embedding_VD.scalar_type(); }

  at::Tensor acquire_embedding() override { return parameters_.embedding_VD; }
  VocabularyAdapter embedding_adapter() override { return parameters_.embedding_adapter; }
  BlockParameters acquire_block(int64_t layer) override { return parameters_.blocks[layer]; }
  HeadTensors acquire_head() override { return parameters_.head; }
  void release() override {}

 private:
  Parameters parameters_;
};

/// The parameter of this kind as a view of the unit's flat buffer; undefined if the unit has none.
at::Tensor view_of(const UnitLayout& unit, const at::Tensor& flat, ParameterKind kind);

/// Norm and head (or score) as views of the flat buffer of the unit that holds the head, which is the embedding if they
/// share a matrix.
HeadTensors head_tensors(const UnitLayout& unit, const at::Tensor& flat);

}  // namespace plumb
