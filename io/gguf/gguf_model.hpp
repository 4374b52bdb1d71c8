// How llama.cpp runs a model: the architecture of each family, its metadata, and the name and form of its tensors.
// Source: llama-arch.cpp and the models of ggml-org/llama.cpp; the conversion of the families in its
// convert_hf_to_gguf.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf/gguf_file.hpp"
#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

/// A tensor of the file and where its values come from.
struct GgufTensor {
  GgufTensorInfo info;
  size_t unit = 0;                      // of unit_layouts()
  std::vector<size_t> parameters = {};  // of the unit, one after the other: one, or that of each expert
  /// Rows of the parameter are permuted within blocks of this many, so that the two sides of a rotated pair are
  /// adjacent; 0: they stay where they are.
  int64_t permuted_rows = 0;
  /// Columns first, first + step, ... of every expert's [in, out] in a parameter of all experts, which become the rows
  /// of [out, in]. step 0: the parameter as it is.
  struct Outputs {
    int64_t first = 0, step = 0;
  };
  Outputs outputs = {};
  float addend = 0;                // of each value: a norm of Gemma multiplies by 1 + weight
  std::vector<float> values = {};  // of a tensor that is no parameter
};

/// Throws DataError by name for a family, head, scaling or parameter that llama.cpp has no place for. `where` begins
/// messages.
void check_gguf_model(const ModelConfig& config, std::string_view where);

/// Keys and values that describe the model and its number format. name: general.name.
GgufMetadata gguf_model_metadata(const ModelConfig& config, GgufNumber number, std::string_view name);

/// In the order of the file. Norms, biases, and matrices whose rows are no whole blocks of Q8_0 are float32.
std::vector<GgufTensor> gguf_tensors(const ModelConfig& config, GgufNumber number, std::string_view where);

/// The tokens that llama.cpp computes as plumb does: max_position_embeddings, or the sliding window of an architecture
/// in which llama.cpp attends to all tokens.
int64_t gguf_context_length(const ModelConfig& config);

}  // namespace plumb
