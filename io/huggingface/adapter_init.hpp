// Initial values of a new adapter. Source: PEFT 0.21, tuners/lora/layer.py.
#pragma once

#include <cstdint>
#include <span>

#include "io/huggingface/hf_model.hpp"
#include "lib/model/lora.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

/// Fills `values` with the initial elements of `unit` = adapter_layout(base's config, adapter) from `begin` on: A is
/// uniform in +-1/sqrt(in), B zero, magnitudes are the row norms of the base matrices, whole parameters are copies of
/// the base. A pure function of base, seed and index, for every split into ranges. Throws as
/// HfModel::read_unit_range().
void initial_adapter_range(const HfModel& base, const Adapter& adapter, const UnitLayout& unit, uint64_t seed,
                           int64_t begin, std::span<float> values);

}  // namespace plumb
