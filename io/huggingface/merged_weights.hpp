// Merges an adapter into the weights of a model: W + scaling B A, or with DoRA m / |W + scaling B A| times that, row by
// row, in float32. Each element results from the same operations in the same order for every split into ranges, so the
// merged model does not depend on which rank reads which part.
// Source: PEFT 0.21, tuners/lora/layer.py and dora.py.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "io/huggingface/peft_adapter.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

/// Fills `values` with elements [first, last) of the base's unit.
using ReadBase = std::function<void(int64_t first, int64_t last, std::span<float> values)>;

/// `values` holds elements [begin, end) of a unit of the base and receives those of the merged model. read_base reads
/// the rest of rows that the range cuts, because DoRA needs whole rows. Throws as PeftAdapter::read_range().
void merge_adapter(const PeftAdapter& adapter, const UnitLayout& unit, int64_t begin, int64_t end,
                   std::span<float> values, const ReadBase& read_base);

}  // namespace plumb
