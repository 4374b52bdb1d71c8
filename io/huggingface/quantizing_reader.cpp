#include "io/huggingface/quantizing_reader.hpp"

#include "lib/base/check.hpp"

namespace plumb {

Dtype QuantizingReader::original_dtype_of(const StoredTensor& matrix) {
  return matrix.entry->dtype == Dtype::kF64 ? Dtype::kF32 : matrix.entry->dtype;
}

Nf4Layout QuantizingReader::layout_of(const StoredTensor& matrix) const {
  return nf4_layout(matrix.entry->num_elements, has_nested_scales_);
}

void QuantizingReader::read(const StoredTensor& matrix, std::span<std::byte> bytes) const {
  const Nf4Layout layout = layout_of(matrix);
  check(static_cast<int64_t>(bytes.size()) == layout.num_bytes, "a quantized matrix fills its bytes");
  std::vector<float> values(layout.num_elements);
  matrix.file->read(*matrix.entry, 0, std::span(values));
  matrix.file->check_finite(*matrix.entry, 0, values);
  nf4_quantize(values, layout, bytes);
}

void QuantizingReader::read(const StoredTensor& matrix, int64_t begin, std::span<float> values) const {
  const std::shared_ptr<const Quantized> whole = quantized(matrix);
  nf4_dequantize({layout_of(matrix), whole->bytes.data(), original_dtype_of(matrix)}, begin, values);
}

std::shared_ptr<const QuantizingReader::Quantized> QuantizingReader::quantized(const StoredTensor& matrix) const {
  {
    const std::lock_guard lock(mutex_);
    if (last_ && last_->entry == matrix.entry) return last_;
  }
  // two threads may duplicate this work, but neither waits for the other's matrix
  const auto made = std::make_shared<Quantized>();
  made->entry = matrix.entry;
  made->bytes.resize(layout_of(matrix).num_bytes);
  read(matrix, made->bytes);
  const std::lock_guard lock(mutex_);
  last_ = made;
  return made;
}

}  // namespace plumb
