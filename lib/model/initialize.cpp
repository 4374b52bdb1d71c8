#include "lib/model/initialize.hpp"

#include <algorithm>

#include "lib/base/check.hpp"
#include "lib/base/random.hpp"

namespace plumb {

namespace {

/// The random stream of a parameter; no two parameters share one.
uint64_t stream_of(const Parameter& parameter) {
  return static_cast<uint64_t>(parameter.expert + 1) << 40 | static_cast<uint64_t>(parameter.layer + 1) << 8 |
         static_cast<uint64_t>(parameter.kind);
}

}  // namespace

void initialize_unit_range(const UnitLayout& unit, const ModelConfig& config, uint64_t seed, int64_t begin, int64_t end,
                           std::span<float> values) {
  check(begin >= 0 && begin <= end && std::ssize(values) == end - begin, "a range of a unit fills its values");
  std::fill(values.begin(), values.end(), 0.0f);
  for (const Parameter& parameter : unit.parameters) {
    const int64_t first = std::max(begin, parameter.offset);
    const int64_t last = std::min(end, parameter.offset + parameter.num_elements());
    const uint64_t stream = stream_of(parameter);
    for (int64_t i = first; i < last; ++i) {
      float& value = values[i - begin];
      if (is_norm_weight(parameter.kind)) {
        value = static_cast<float>(1.0 - config.norm.weight_offset);
      } else if (parameter.is_decayed()) {
        const auto index = static_cast<uint64_t>(i - parameter.offset);
        value = static_cast<float>(config.initializer_range * random_normal(seed, stream, index));
      }
    }
  }
}

}  // namespace plumb
