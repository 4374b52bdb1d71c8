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

  at::Tensor acquire_embedding() override { return embedding_VD_; }
  BlockParameters acquire_block(int64_t layer) override { return blocks_[layer]; }
  HeadTensors acquire_head() override { return head_; }
  void release() override {}

 private:
  at::Tensor embedding_VD_;
  std::vector<BlockParameters> blocks_;
  HeadTensors head_;
};

/// The parameter of this kind as a view of the unit's flat buffer; undefined if the unit has none.
at::Tensor view_of(const UnitLayout& unit, const at::Tensor& flat, ParameterKind kind);

/// Norm and head (or score) as views of the flat buffer of the unit that holds the head, which is the embedding if they
/// share a matrix.
HeadTensors head_tensors(const UnitLayout& unit, const at::Tensor& flat);

}  // namespace plumb
