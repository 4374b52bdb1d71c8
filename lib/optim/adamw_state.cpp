#include "lib/optim/adamw_state.hpp"

namespace plumb {

namespace {

int64_t num_scales(int64_t elements) { return (elements + kDynamicBlockElements - 1) / kDynamicBlockElements; }

}  // namespace

int64_t moment_bytes(int64_t elements, bool is_8bit) {
  return is_8bit ? 2 * (elements + 4 * num_scales(elements)) : 2 * 4 * elements;
}

AdamWState::AdamWState(int64_t elements, bool is_8bit) {
  const auto count = static_cast<size_t>(elements), blocks = static_cast<size_t>(num_scales(elements));
  if (!is_8bit) {
    moments1_.resize(count);
    moments2_.resize(count);
    return;
  }
  codes1_.resize(count);
  codes2_.resize(count);
  scales1_.resize(blocks);
  scales2_.resize(blocks);
  set_to_zero(view());
}

void AdamWState::update(std::span<float> parameters, std::span<const float> gradients, std::span<const DecayRun> runs,
                        const AdamWOptions& options, double learning_rate, int64_t step, double gradient_scale) {
  if (is_8bit()) {
    adamw_update_8bit(parameters, gradients, view(), runs, options, learning_rate, step, gradient_scale);
    return;
  }
  for (const DecayRun& run : runs) {
    const auto first = static_cast<size_t>(run.begin), count = static_cast<size_t>(run.end - run.begin);
    AdamWOptions run_options = options;
    if (!run.is_decayed) run_options.weight_decay = 0;
    adamw_update(parameters.subspan(first, count), gradients.subspan(first, count),
                 std::span(moments1_).subspan(first, count), std::span(moments2_).subspan(first, count), run_options,
                 learning_rate, step, gradient_scale);
  }
}

int64_t AdamWState::num_bytes() const {
  return is_8bit() ? moment_bytes(static_cast<int64_t>(codes1_.size()), true)
                   : moment_bytes(static_cast<int64_t>(moments1_.size()), false);
}

}  // namespace plumb
