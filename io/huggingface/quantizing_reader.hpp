// Reads unquantized matrices of a model directory and quantizes them to NF4. A matrix is quantized as a whole because
// the mean of all its scales is needed. Ranges of one matrix are usually read in sequence, so the last one is cached.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "io/huggingface/nf4_tensors.hpp"
#include "lib/model/nf4.hpp"

namespace plumb {

/// Thread-safe: reads may run concurrently.
class QuantizingReader {
 public:
  explicit QuantizingReader(bool has_nested_scales) : has_nested_scales_(has_nested_scales) {}

  Nf4Layout layout_of(const StoredTensor& matrix) const;
  /// The dtype to which dequantized values are rounded; F64 is read as F32.
  static Dtype original_dtype_of(const StoredTensor& matrix);

  /// Fills `bytes`, layout_of(matrix).num_bytes of them; the matrix is in memory as float32 meanwhile. Throws DataError
  /// if an element is not finite.
  void read(const StoredTensor& matrix, std::span<std::byte> bytes) const;

  /// Dequantizes elements [begin, begin + values.size()) of the quantized matrix.
  void read(const StoredTensor& matrix, int64_t begin, std::span<float> values) const;

 private:
  struct Quantized {
    const SafetensorsEntry* entry;
    std::vector<std::byte> bytes;
  };
  std::shared_ptr<const Quantized> quantized(const StoredTensor& matrix) const;

  bool has_nested_scales_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Quantized> last_;
};

}  // namespace plumb
