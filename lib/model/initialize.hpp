// Random weights of a new model: matrices are normal with the config's initializer_range, norms 1, biases 0. A weight
// is a pure function of the seed, the parameter and its index, so any split over ranks or chunks gives the same model.
// Source: _init_weights of transformers' decoders.
#pragma once

#include <cstdint>
#include <span>

#include "lib/model/parameters.hpp"

namespace plumb {

/// Fills `values` with elements [begin, end) of the unit's flat buffer; alignment gaps and elements past num_elements
/// are zero. Norms begin as the identity, biases as zero, everything else is normal with the config's
/// initializer_range.
void initialize_unit_range(const UnitLayout& unit, const ModelConfig& config, uint64_t seed, int64_t begin, int64_t end,
                           std::span<float> values);

}  // namespace plumb
