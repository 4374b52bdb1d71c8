// The stages of training.
#pragma once

#include <array>

#include "lib/base/named.hpp"

namespace plumb {

enum class Stage { kSft, kReward, kDpo, kGrpo, kRloo };
inline constexpr std::array kStages = {Stage::kSft, Stage::kReward, Stage::kDpo, Stage::kGrpo, Stage::kRloo};

/// The name of a stage's command, of its section in a pipeline file, and of its directory.
template <>
inline constexpr auto kNames<Stage> = std::to_array<Named<Stage>>({{"sft", Stage::kSft},
                                                                   {"reward", Stage::kReward},
                                                                   {"dpo", Stage::kDpo},
                                                                   {"grpo", Stage::kGrpo},
                                                                   {"rloo", Stage::kRloo}});

/// Whether the stage trains on completions that its model makes.
constexpr bool makes_rollouts(Stage stage) { return stage == Stage::kGrpo || stage == Stage::kRloo; }

struct StageSet {
  bool sft = false, reward = false, dpo = false, grpo = false, rloo = false;

  constexpr bool has(Stage stage) const {
    switch (stage) {
      case Stage::kSft:
        return sft;
      case Stage::kReward:
        return reward;
      case Stage::kDpo:
        return dpo;
      case Stage::kGrpo:
        return grpo;
      case Stage::kRloo:
        break;
    }
    return rloo;
  }
};
inline constexpr StageSet kAllStages = {true, true, true, true, true};
/// The stages that train on rows of data.
inline constexpr StageSet kRowStages = {.sft = true, .reward = true, .dpo = true};
inline constexpr StageSet kRolloutStages = {.grpo = true, .rloo = true};

}  // namespace plumb
