// Matrices in NF4 as bitsandbytes stores them in safetensors: beside NAME, which holds the codes, NAME.absmax,
// NAME.quant_map, NAME.quant_state.bitsandbytes__nf4 (bytes of JSON) and, where the scales are quantized too,
// NAME.nested_absmax and NAME.nested_quant_map. Source: bitsandbytes, functional.py, QuantState.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/huggingface/safetensors.hpp"
#include "lib/model/nf4.hpp"

namespace plumb {

inline constexpr const char* kNf4StateSuffix = ".quant_state.bitsandbytes__nf4";
inline constexpr size_t kNf4Codes = 16;

/// The sixteen values, as files hold them under NAME.quant_map.
const std::array<float, kNf4Codes>& nf4_code_values();

/// A tensor of a model directory, in whichever of its files.
struct StoredTensor {
  const SafetensorsFile* file = nullptr;
  const SafetensorsEntry* entry = nullptr;
};
/// Both pointers null: no such tensor.
using FindTensor = std::function<StoredTensor(std::string_view name)>;

/// One matrix and where its parts are. Valid as long as the files.
struct StoredNf4 {
  std::string name;
  Nf4Layout layout;
  Dtype original_dtype = Dtype::kF32;
  float nested_mean = 0;
  StoredTensor codes, absmax, nested_absmax, nested_map;
  std::vector<std::string> part_names;  // of all tensors but the codes
};

/// Whether the directory says anything of a quantized tensor of this name.
bool has_nf4_parts(const std::string& name, const FindTensor& find);

/// Checks every part of the matrix `name` of `shape` [out, in] but its scales' values. Throws DataError, naming file,
/// tensor, what was expected and what was found.
StoredNf4 open_nf4(const std::string& name, const std::vector<int64_t>& shape, const FindTensor& find);

/// Fills `bytes`, matrix.layout.num_bytes of them. Throws DataError where a scale is not finite.
void read_stored_nf4(const StoredNf4& matrix, std::span<std::byte> bytes);

/// Elements [begin, begin + values.size()) dequantized, reading only the blocks that they are in. Throws DataError
/// where one is not finite.
void read_stored_nf4(const StoredNf4& matrix, int64_t begin, std::span<float> values);

}  // namespace plumb
