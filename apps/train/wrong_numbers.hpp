// Wrong numbers, so that tests can show what notices them: PLUMB_FAULT=POINT:STEP:RANK:ACTION (lib/base/fault.hpp) with
// actions that change numbers and nothing else.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "lib/model/batch.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

/// Makes what this rank has wrong if the variable asks for it here. ACTION: nan or spike, for losses of the pairs of a
/// step that are not finite, or large; flip, for another bit of a parameter.
void inject_wrong_numbers(std::string_view point, int64_t step, std::span<MicroBatch> batches, TrainableModel& model);

}  // namespace plumb
