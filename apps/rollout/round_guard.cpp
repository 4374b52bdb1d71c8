#include "apps/rollout/round_guard.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace plumb {

std::vector<std::string> RoundGuard::add(std::span<const Metric> metrics) {
  std::vector<std::string> warnings;
  const auto watch = [&](const char* name, int64_t& count, const char* text) {
    const auto found = std::find_if(metrics.begin(), metrics.end(), [&](const Metric& m) { return m.name == name; });
    count = found != metrics.end() && found->value > 0.5 ? count + 1 : 0;
    if (count == kRoundsInARow)
      warnings.push_back(fmt::format("{} {:.2f}, above 0.5 for {} rounds: {}", name, found->value, count, text));
  };
  watch("frac_reward_zero_std", num_without_signal_,
        "most prompts have completions of one reward, which teach nothing; choose prompts that the model sometimes "
        "answers well, rewards that differ, a higher --temperature or --num_generations");
  watch("completions/clipped_ratio", num_clipped_,
        "most completions have no end; raise --max_completion_length, or train the model to end its answers first");
  return warnings;
}

}  // namespace plumb
