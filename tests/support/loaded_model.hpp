// A whole model on one process, from a Hugging Face directory, and its forward pass up to the last block.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <string>
#include <vector>

#include "io/huggingface/hf_model.hpp"
#include "lib/model/batch.hpp"
#include "lib/nn/block.hpp"
#include "lib/objective/token_loss.hpp"

namespace plumb {

/// All units of a model in one dtype.
struct LoadedModel {
  ModelConfig config;
  std::vector<UnitLayout> layouts;
  std::vector<at::Tensor> units;

  LoadedModel(const std::string& directory, at::ScalarType dtype) {
    const HfModel source(directory);
    config = source.config();
    layouts = source.units();
    for (const UnitLayout& layout : layouts) {
      const at::Tensor unit = at::empty({layout.num_elements}, at::TensorOptions().dtype(at::kFloat));
      source.read_unit_range(layout, 0, layout.num_elements,
                             {unit.data_ptr<float>(), static_cast<size_t>(layout.num_elements)});
      units.push_back(unit.to(dtype));
    }
  }

  at::Tensor parameter(size_t unit, ParameterKind kind) const {
    for (const Parameter& p : layouts[unit].parameters)
      if (p.kind == kind) return units[unit].narrow(0, p.offset, p.num_elements()).view(p.shape);
    return {};
  }
  size_t head_unit() const { return config.ties_embeddings ? 0 : units.size() - 1; }
  HeadTensors head() const {
    return {parameter(head_unit(), ParameterKind::kFinalNorm),
            parameter(head_unit(), config.ties_embeddings ? ParameterKind::kEmbedding : ParameterKind::kHead)};
  }
};

/// Concatenated documents, every token trained.
inline MicroBatch pack(const std::vector<std::vector<int64_t>>& documents) {
  MicroBatch batch;
  batch.document_begin = {0};
  for (const auto& document : documents) {
    batch.token_ids.insert(batch.token_ids.end(), document.begin(), document.end());
    batch.document_begin.push_back(batch.num_tokens());
  }
  batch.loss_mask.assign(batch.token_ids.size(), 1);
  return batch;
}

inline at::Tensor hidden_states(const LoadedModel& model, const MicroBatch& batch) {
  const BlockContext context(model.config, {batch.document_begin, batch.prefix_length});
  at::Tensor x = model.parameter(0, ParameterKind::kEmbedding).index_select(0, at::tensor(batch.token_ids));
  for (int64_t layer = 0; layer < model.config.num_layers; ++layer) {
    const auto unit = static_cast<size_t>(layer) + 1;
    BlockActivations kept;
    x = block_forward(context, layer, block_tensors(model.layouts[unit], model.units[unit]), x, kept);
  }
  return x;
}

}  // namespace plumb
