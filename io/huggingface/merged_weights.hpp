// The weights of a model with an adapter in them: W + scaling B A, or with DoRA m / |W + scaling B A| times that, row
// by row, in float32. Each element is made by the same operations in the same order, wherever a range begins or ends,
// so the merged model does not depend on who reads which part of it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "io/huggingface/peft_adapter.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

/// Fills its last argument with elements [first, last) of the base's unit.
using ReadBase = std::function<void(int64_t first, int64_t last, std::span<float> values)>;

/// `values`: elements [begin, end) of a unit of the base, which become those of the merged model. read_base: for rows
/// that the range cuts, of which DoRA needs the whole. Throws as PeftAdapter::read_range().
void merge_adapter(const PeftAdapter& adapter, const UnitLayout& unit, int64_t begin, int64_t end,
                   std::span<float> values, const ReadBase& read_base);

}  // namespace plumb
