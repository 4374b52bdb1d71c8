// What a new adapter starts from. Source: PEFT 0.21, tuners/lora/layer.py.
#pragma once

#include <cstdint>
#include <span>

#include "io/huggingface/hf_model.hpp"
#include "lib/model/lora.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

/// What training starts from, elements [begin, end) of `unit` = adapter_layout(base's config, adapter): A uniform in
/// +-1/sqrt(in), B zero, magnitudes the row norms of the base's matrices, whole parameters as the base has them. A pure
/// function of base, seed and index, however it is cut. Throws as HfModel::read_unit_range().
void initial_adapter_range(const HfModel& base, const Adapter& adapter, const UnitLayout& unit, uint64_t seed,
                           int64_t begin, int64_t end, std::span<float> values);

}  // namespace plumb
