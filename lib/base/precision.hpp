// The number formats in which a model is computed and saved.
#pragma once

#include <cstdint>

#include "lib/base/dtype.hpp"
#include "lib/base/named.hpp"

namespace plumb {

enum class Precision { kFloat32, kBfloat16 };

template <>
inline constexpr auto kNames<Precision> = std::to_array<Named<Precision>>({{"float32", Precision::kFloat32},
                                                                           {"bfloat16", Precision::kBfloat16}});

/// The same format in a safetensors file.
constexpr Dtype file_dtype(Precision precision) {
  return precision == Precision::kBfloat16 ? Dtype::kBf16 : Dtype::kF32;
}

constexpr int64_t element_bytes(Precision precision) { return size_bytes(file_dtype(precision)); }

}  // namespace plumb
