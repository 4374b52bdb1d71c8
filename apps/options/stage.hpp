// The stages of training.
#pragma once

#include <array>

#include "lib/base/named.hpp"

namespace plumb {

enum class Stage { kSft, kReward, kDpo };
inline constexpr std::array kStages = {Stage::kSft, Stage::kReward, Stage::kDpo};

/// The name of a stage's command, of its section in a pipeline file, and of its directory.
template <>
inline constexpr auto kNames<Stage> =
    std::to_array<Named<Stage>>({{"sft", Stage::kSft}, {"reward", Stage::kReward}, {"dpo", Stage::kDpo}});

struct StageSet {
  bool sft = false, reward = false, dpo = false;

  constexpr bool has(Stage stage) const { return stage == Stage::kSft ? sft : stage == Stage::kReward ? reward : dpo; }
};
inline constexpr StageSet kAllStages = {true, true, true};

}  // namespace plumb
