#include "apps/run/stragglers.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace plumb {

namespace {

constexpr double kSlowBelow = 0.75;  // fraction of the fastest rank's speed
constexpr int kStepsInARow = 20;

}  // namespace

std::string Stragglers::add_step(const std::vector<int64_t>& picoseconds_per_token) {
  streaks_.resize(picoseconds_per_token.size());
  int64_t fastest = 0;
  for (const int64_t time : picoseconds_per_token)
    if (time > 0) fastest = fastest == 0 ? time : std::min(fastest, time);
  std::string text;
  for (size_t rank = 0; rank < streaks_.size(); ++rank) {
    Streak& streak = streaks_[rank];
    if (picoseconds_per_token[rank] == 0) continue;
    const double slowness = static_cast<double>(picoseconds_per_token[rank]) / static_cast<double>(fastest);
    if (slowness * kSlowBelow <= 1) {
      streak = {};
      continue;
    }
    streak.slowness += slowness;
    if (++streak.num_steps == kStepsInARow)
      text += fmt::format("{}rank {} ({:.1f} times as slow as the fastest)", text.empty() ? "" : ", ", rank,
                          streak.slowness / kStepsInARow);
  }
  if (text.empty()) return "";
  return fmt::format("slow for {} steps in a row: {}; the other ranks wait in every step", kStepsInARow, text);
}

}  // namespace plumb
