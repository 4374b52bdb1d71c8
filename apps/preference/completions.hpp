// A model's answers to prompts, and what a reward model makes of them. Both are the same on any number of ranks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/models/model_setup.hpp"
#include "apps/models/reward_model.hpp"
#include "apps/preference/row_prompts.hpp"
#include "lib/model/sampling.hpp"
#include "partition/communicator.hpp"

namespace plumb {

struct AnswerOptions {
  int64_t num_answers = 1;  // to each prompt
  int64_t max_new_tokens = 256;
  SamplingOptions sampling = {};
  uint64_t seed = 42;
  Precision dtype = Precision::kFloat32;
};

struct Answers {
  std::vector<std::vector<std::string>> texts;  // [prompt][answer]
  int64_t num_cut_off = 0;                      // that max_new_tokens ended
};

/// Collective: the prompts are rendered for this model. No model is in memory when this returns.
Answers answer_prompts(const Communicator& comm, const ModelSource& model, const RowPrompts& prompts,
                       const AnswerOptions& options);

/// Collective: the rewards of prompt and answer as one text, with the end that preparing pairs gives it, [prompt]
/// [answer] on every rank.
std::vector<std::vector<double>> score_answers(const Communicator& comm, RewardModel& reward_model,
                                               const RowPrompts& prompts,
                                               const std::vector<std::vector<std::string>>& answers,
                                               const DataOptions& data);

}  // namespace plumb
