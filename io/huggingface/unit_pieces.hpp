// Iterates over the parameters of a unit that intersect a range of its flat buffer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "lib/base/check.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

/// Calls use(parameter, first, last, values of these elements) for every parameter that intersects [begin, end), with
/// first and last relative to the parameter. Sets the rest of `values` to zero.
template <class Use>
void for_each_piece(const UnitLayout& unit, int64_t begin, int64_t end, std::span<float> values, Use use) {
  check(begin >= 0 && begin <= end && std::ssize(values) == end - begin, "a range of a unit fills its values");
  std::fill(values.begin(), values.end(), 0.0f);
  for (const Parameter& parameter : unit.parameters) {
    const int64_t first = std::max(begin, parameter.offset);
    const int64_t last = std::min(end, parameter.offset + parameter.num_elements());
    if (first >= last) continue;
    use(parameter, first - parameter.offset, last - parameter.offset, values.subspan(first - begin, last - first));
  }
}

}  // namespace plumb
