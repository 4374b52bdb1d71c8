// Mixtures of experts as llama.cpp has them: the matrices of all experts of a layer in one tensor, experts outermost,
// each [out, in]. The files of gpt-oss have them as [in, out], with gate and up in alternating columns.
// Source: llama-graph.cpp (build_moe_ffn) and the models of ggml-org/llama.cpp.
#pragma once

#include <string_view>
#include <vector>

#include "io/gguf/gguf_model.hpp"

namespace plumb {

/// True for a parameter of one expert or of all, which are in expert_tensors().
bool is_of_experts(const Parameter& parameter);

/// The tensors of one block's experts, none in a dense one. unit: of unit_layouts().
std::vector<GgufTensor> expert_tensors(const ModelConfig& config, const UnitLayout& layout, size_t unit,
                                       GgufNumber number);

/// The reason to refuse a mixture: "expected ...", or "".
std::string_view refused_experts(const ModelConfig& config);

/// The keys of a mixture without the architecture before them; none for a dense model.
std::vector<std::pair<const char*, int64_t>> expert_counts(const ModelConfig& config);

}  // namespace plumb
