// A model's answers to prompts, and their rewards. Neither depends on the number of ranks.
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
  int64_t num_answers = 1;  // per prompt
  int64_t max_new_tokens = 256;
  SamplingOptions sampling = {};
  uint64_t seed = 42;
  Precision dtype = Precision::kFloat32;
  std::string chat_template = {};  // that rendered the prompts: an answer ends with the assistant's turn
};

struct Answers {
  std::vector<std::vector<std::string>> texts;  // [prompt][answer]
  int64_t num_cut_off = 0;                      // truncated by max_new_tokens
};

/// Collective: answers to prompts that were rendered for this model. The model is no longer in memory when this
/// returns.
Answers answer_prompts(const Communicator& comm, const ModelSource& model, const RowPrompts& prompts,
                       const AnswerOptions& options);

/// Collective: the rewards, [prompt][answer], on every rank. Prompt and answer are one text that ends as a prepared
/// pair does.
std::vector<std::vector<double>> score_answers(const Communicator& comm, RewardModel& reward_model,
                                               const RowPrompts& prompts,
                                               const std::vector<std::vector<std::string>>& answers,
                                               const DataOptions& data);

}  // namespace plumb
