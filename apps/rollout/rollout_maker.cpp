#include "apps/rollout/rollout_maker.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "apps/models/model_setup.hpp"
#include "apps/models/stage_model.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

RewardOptions rewards_of(const RolloutStageOptions& options) {
  RewardOptions rewards = options.rewards;
  rewards.max_completion_length = options.max_completion_length;
  return rewards;
}

/// Names the first few. The answers are those to rows first_row, first_row + stride, ...
void log_failures(const ProgramRewards& answers, int64_t first_row, int64_t stride) {
  constexpr int64_t kMostNamed = 3;
  int64_t num_named = 0;
  for (int64_t i = 0; i < std::ssize(answers.failures) && num_named < kMostNamed; ++i) {
    if (answers.failures[i].empty()) continue;
    ++num_named;
    log_warning("reward_program: row {}: {}", first_row + i * stride + 1, answers.failures[i]);
  }
  if (answers.num_failures() > num_named)
    log_warning("reward_program: and {} more rows without an answer", answers.num_failures() - num_named);
}

}  // namespace

std::vector<std::string> reward_names(const RolloutStageOptions& options) {
  std::vector<std::string> names;
  for (std::string directory : options.reward_model) {
    while (directory.size() > 1 && directory.ends_with('/')) directory.pop_back();
    names.push_back(directory.substr(directory.find_last_of('/') + 1));
  }
  for (const RewardFunction function : options.rewards.functions) names.emplace_back(name_of(function));
  return names;
}

void check_rows(const RolloutStageOptions& options, const RowPrompts& prompts) {
  if (options.rewards.functions.empty()) return;
  const RewardFunctions functions(rewards_of(options));
  for (const RowPrompt& prompt : prompts.prompts)
    functions.check_row(prompt.row, fmt::format("row {}", prompt.source_row));
}

RolloutMaker::RolloutMaker(const Input& input)
    : in_(input), decoder_(input.comm, input.config, scalar_type(input.dtype)) {
  for (const std::string& directory : in_.options.reward_model)
    reward_models_.push_back(std::make_unique<RewardModel>(in_.comm, directory, scalar_type(in_.dtype)));
  const RewardOptions rewards = rewards_of(in_.options);
  in_.comm.run_agreed([&] {
    tokenizer_.emplace(load_tokenizer(in_.tokenizer));
    if (!rewards.functions.empty()) functions_.emplace(rewards);
    if (rewards.has(RewardFunction::kProgram)) program_.emplace(rewards.program, in_.program_log);
  });
}

std::vector<Rollout> RolloutMaker::generate(const RowPrompts& prompts, std::span<const int64_t> chosen,
                                            int64_t num_generations, uint64_t seed, int64_t round) {
  GenerateOptions options;
  options.max_new_tokens = in_.options.max_completion_length;
  options.stop_ids = in_.end_ids;
  options.sampling = in_.options.sampling();
  options.seed = seed;
  options.num_known_tokens = tokenizer_->vocab_size();
  options.keeps_end = true;
  std::vector<std::vector<int32_t>> ids;
  for (const int64_t prompt : chosen) ids.push_back(prompts.prompts[prompt].token_ids);
  std::vector<std::vector<Completion>> completions =
      sample_completions(in_.comm, decoder_.decoder(), ids, num_generations, options);
  std::vector<Rollout> rollouts;
  for (size_t i = 0; i < ids.size(); ++i)
    for (Completion& completion : completions[i]) {
      Rollout rollout;
      rollout.round = round;
      rollout.row = prompts.prompts[chosen[i]].source_row;
      rollout.prompt_ids = ids[i];
      rollout.text = completion_text(*tokenizer_, ids[i], completion);
      rollout.is_truncated = std::find(in_.end_ids.begin(), in_.end_ids.end(), completion.back()) == in_.end_ids.end();
      rollout.completion_ids = std::move(completion);
      rollouts.push_back(std::move(rollout));
    }
  return rollouts;
}

void RolloutMaker::score(const RowPrompts& prompts, std::span<const int64_t> chosen, std::vector<Rollout>& rollouts) {
  for (Rollout& rollout : rollouts) rollout.rewards.clear();
  score_by_models(prompts, chosen, rollouts);
  if (functions_) score_by_functions(prompts, chosen, rollouts);
}

void RolloutMaker::score_by_models(const RowPrompts& prompts, std::span<const int64_t> chosen,
                                   std::vector<Rollout>& rollouts) {
  const int64_t num_generations = std::ssize(rollouts) / std::ssize(chosen);
  in_.comm.run_agreed([&] {
    while (encoders_.size() < reward_models_.size())
      encoders_.emplace_back(reward_models_[encoders_.size()]->directory(), prompts.prompts[chosen[0]].form, in_.data);
  });
  for (size_t model = 0; model < reward_models_.size(); ++model) {
    const int64_t vocab_size = reward_models_[model]->config().vocab_size;
    const std::vector<double> rewards =
        reward_models_[model]->score(std::ssize(rollouts), kTextsPerMicroBatch, [&](int64_t i) {
          const Rollout& rollout = rollouts[i];
          std::vector<int32_t> ids = encoders_[model].encode(prompts.prompts[chosen[i / num_generations]], rollout.text,
                                                             !*rollout.is_truncated);
          for (const int32_t id : ids)
            if (id >= vocab_size)
              throw_error<DataError>("{}: expected token ids below {}, the rows of the embedding, got {}",
                                     reward_models_[model]->directory(), vocab_size, id);
          return ids;
        });
    for (size_t i = 0; i < rollouts.size(); ++i) rollouts[i].rewards.push_back(rewards[i]);
  }
}

void RolloutMaker::score_by_functions(const RowPrompts& prompts, std::span<const int64_t> chosen,
                                      std::vector<Rollout>& rollouts) {
  const int64_t num_generations = std::ssize(rollouts) / std::ssize(chosen), num_rows = std::ssize(rollouts);
  const size_t num_functions = in_.options.rewards.functions.size();
  std::vector<double> mine;  // of rows rank, rank + size, ...
  int64_t num_failures = 0;  // of the program
  in_.comm.run_agreed([&] {
    std::vector<RewardRequest> requests;
    for (int64_t i = in_.comm.rank(); i < num_rows; i += in_.comm.size()) {
      const Rollout& rollout = rollouts[i];
      const RowPrompt& prompt = prompts.prompts[chosen[i / num_generations]];
      const RewardInput input{rollout.text, rollout.completion_ids, *rollout.is_truncated, prompt.row};
      const std::vector<double> rewards = (*functions_)(input, fmt::format("row {}", prompt.source_row));
      mine.insert(mine.end(), rewards.begin(), rewards.end());
      if (program_)
        requests.push_back(
            {prompt.text(), rollout.text, *rollout.is_truncated, std::ssize(rollout.completion_ids), prompt.row});
    }
    if (!program_) return;
    const std::vector<RewardFunction>& names = in_.options.rewards.functions;
    const auto place = std::find(names.begin(), names.end(), RewardFunction::kProgram) - names.begin();
    const ProgramRewards answers = (*program_)(requests);
    for (size_t i = 0; i < requests.size(); ++i) mine[i * num_functions + place] = answers.rewards[i];
    num_failures = answers.num_failures();
    log_failures(answers, in_.comm.rank(), in_.comm.size());
  });
  in_.comm.sum({&num_failures, 1});
  if (num_failures > 1 && num_failures * 10 > num_rows)
    throw AgreedError(fmt::format("--reward_program: expected answers to at least nine tenths of the {} completions of "
                                  "a round, got {} failures; {} has what it wrote",
                                  num_rows, num_failures, in_.program_log),
                      kExitData);
  const std::vector<std::vector<double>> by_rank = in_.comm.all_gather(mine);
  for (int64_t i = 0; i < num_rows; ++i) {
    const auto first = by_rank[i % in_.comm.size()].begin() + i / in_.comm.size() * static_cast<int64_t>(num_functions);
    rollouts[i].rewards.insert(rollouts[i].rewards.end(), first, first + static_cast<int64_t>(num_functions));
  }
}

}  // namespace plumb
