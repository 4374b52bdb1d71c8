#include "lib/optim/adamw_state.hpp"

namespace plumb {

namespace {

int64_t num_scales(int64_t elements) { return (elements + kDynamicBlockElements - 1) / kDynamicBlockElements; }

}  // namespace

int64_t moment_bytes(int64_t elements, bool is_8bit) {
  return is_8bit ? 2 * (elements + 4 * num_scales(elements)) : 2 * 4 * elements;
}

std::vector<MomentPiece> moment_pieces(bool is_8bit) {
  if (!is_8bit) return {{4, 1}, {4, 1}};
  return {{1, 1}, {1, 1}, {4, kDynamicBlockElements}, {4, kDynamicBlockElements}};
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
                        const AdamWStep& step) {
  if (is_8bit()) {
    adamw_update_8bit(parameters, gradients, view(), runs, step);
    return;
  }
  for (const DecayRun& run : runs) {
    const auto first = static_cast<size_t>(run.begin), count = static_cast<size_t>(run.end - run.begin);
    AdamWStep run_step = step;
    if (!run.is_decayed) run_step.weight_decay = 0;
    adamw_update(parameters.subspan(first, count), gradients.subspan(first, count),
                 std::span(moments1_).subspan(first, count), std::span(moments2_).subspan(first, count), run_step);
  }
}

std::vector<std::span<std::byte>> AdamWState::bytes() {
  const auto view_of = [](auto& values) { return std::as_writable_bytes(std::span(values)); };
  if (!is_8bit()) return {view_of(moments1_), view_of(moments2_)};
  return {view_of(codes1_), view_of(codes2_), view_of(scales1_), view_of(scales2_)};
}

int64_t AdamWState::num_bytes() const {
  return is_8bit() ? moment_bytes(static_cast<int64_t>(codes1_.size()), true)
                   : moment_bytes(static_cast<int64_t>(moments1_.size()), false);
}

}  // namespace plumb
