// Reads matrices that a model directory holds as numbers and makes NF4 of them on the way. A matrix is quantized as a
// whole, because the mean of all its scales takes part; ranges of one matrix are usually read in turn, so the last one
// is kept.
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

/// Reads may run at the same time on any thread.
class QuantizingReader {
 public:
  explicit QuantizingReader(bool has_nested_scales) : has_nested_scales_(has_nested_scales) {}

  Nf4Layout layout_of(const StoredTensor& matrix) const;

  /// Fills `bytes`, layout_of(matrix).num_bytes of them; the matrix is in memory as float32 meanwhile. Throws DataError
  /// where an element is not finite.
  void read(const StoredTensor& matrix, std::span<std::byte> bytes) const;

  /// Elements [begin, begin + values.size()) of what read() gives, dequantized.
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
