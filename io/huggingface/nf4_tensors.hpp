// Reads NF4 matrices as bitsandbytes stores them in safetensors. NAME holds the codes; next to it are NAME.absmax,
// NAME.quant_map, NAME.quant_state.bitsandbytes__nf4 (JSON as bytes) and, if the scales are quantized too,
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

/// The sixteen values, as stored under NAME.quant_map.
const std::array<float, kNf4Codes>& nf4_code_values();

/// Both pointers are null if there is no such tensor.
using FindTensor = std::function<StoredTensor(std::string_view name)>;

/// One matrix and the places of its parts. Valid as long as the files.
struct StoredNf4 {
  std::string name;
  Nf4Layout layout;
  Dtype original_dtype = Dtype::kF32;
  float nested_mean = 0;
  StoredTensor codes, absmax, nested_absmax, nested_map;
  std::vector<std::string> part_names;  // all tensors but the codes
};

/// True if the directory has any part of a quantized tensor of this name.
bool has_nf4_parts(const std::string& name, const FindTensor& find);

/// Checks every part of the matrix `name` of `shape` [out, in], except the values of its scales. Throws DataError with
/// file, tensor, expected and found.
StoredNf4 open_nf4(const std::string& name, const std::vector<int64_t>& shape, const FindTensor& find);

/// Fills `bytes`, matrix.layout.num_bytes of them. Throws DataError if a scale is not finite.
void read_stored_nf4(const StoredNf4& matrix, std::span<std::byte> bytes);

/// Dequantizes elements [begin, begin + values.size()), reading only their blocks. Throws DataError if one is not
/// finite.
void read_stored_nf4(const StoredNf4& matrix, int64_t begin, std::span<float> values);

}  // namespace plumb
