#include "apps/train/policy_data.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "apps/models/model_text.hpp"
#include "apps/models/stage_model.hpp"
#include "apps/rollout/rollout_maker.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/text/row.hpp"

namespace plumb {

namespace {

RoundSize round_size(const TrainOptions& o, int64_t windows, int num_ranks) {
  return {o.per_device_train_batch_size, num_ranks * o.gradient_accumulation_steps, windows};
}

/// Sizes of the run, and names of its rewards, from recorded rollouts.
void measure(const TrainOptions& o, const RoundSize& size, const ModelConfig& config, PolicyData& data) {
  const RecordedSize recorded = measure_rollouts(o.rl.rollouts, config.vocab_size, o.rl.num_generations);
  data.layout = recorded_round_layout(size, o.rl.num_iterations, o.rl.num_generations, recorded.rows_per_round);
  data.max_row_tokens = recorded.max_tokens;
  if (recorded.max_tokens > config.max_position_embeddings)
    throw_error<DataError>("--rollouts: expected at most the model's {} positions, got a prompt and completion of {}",
                           config.max_position_embeddings, recorded.max_tokens);
  const int64_t num_steps = recorded.num_rounds * data.layout.steps_per_round();
  if (o.max_steps > num_steps)
    throw_error<UsageError>("--max_steps {}: --rollouts has {} rounds, of {} steps each", o.max_steps,
                            recorded.num_rounds, data.layout.steps_per_round());
  data.length = {num_steps, o.max_steps > 0 ? o.max_steps : num_steps};
  if (data.reward_names.empty())
    for (int64_t i = 1; i <= recorded.num_rewards; ++i) data.reward_names.push_back(fmt::format("reward_{}", i));
  if (std::ssize(data.reward_names) != recorded.num_rewards)
    throw_error<UsageError>("--rollouts: expected a reward of each of the {} models and functions, got {} rewards",
                            data.reward_names.size(), recorded.num_rewards);
  if (o.stage == Stage::kGrpo) validate(advantage_options(o.rl), data.reward_names.size());
  if (o.stage == Stage::kRloo) validate(rloo_advantage_options(o.rl), data.reward_names.size());
}

void log_left_out(const RowPrompts& prompts, std::string_view option) {
  if (prompts.num_empty + prompts.num_too_long > 0)
    log_warning("--{}: of {} rows, {} ask nothing and {} leave no room for a completion; they are left out", option,
                prompts.num_rows, prompts.num_empty, prompts.num_too_long);
}

/// Sizes of the run from its prompts.
void measure_prompts(const TrainOptions& o, const RoundSize& size, const ModelConfig& config, PolicyData& data) {
  const auto num_prompts = std::ssize(data.prompts.prompts);
  data.layout = make_round_layout(size, o.rl.num_iterations, o.rl.num_generations);
  data.order = {static_cast<uint64_t>(o.seed), o.shuffle, num_prompts, data.layout.prompts_per_round()};
  const int64_t num_rounds = data.order.rounds_per_epoch();
  if (num_rounds == 0)
    throw_error<UsageError>(
        "--data: expected at least the {} prompts of a round ({} completions, {} per prompt), got {}: of {} rows, {} "
        "ask nothing and {} leave no room for a completion",
        data.layout.prompts_per_round(), data.layout.rows_per_round, o.rl.num_generations, num_prompts,
        data.prompts.num_rows, data.prompts.num_empty, data.prompts.num_too_long);
  const int64_t steps_per_epoch = num_rounds * data.layout.steps_per_round();
  data.length = {steps_per_epoch,
                 o.max_steps > 0
                     ? o.max_steps
                     : static_cast<int64_t>(std::ceil(o.num_train_epochs * static_cast<double>(steps_per_epoch)))};
  for (const RowPrompt& prompt : data.prompts.prompts)
    data.max_row_tokens = std::max<int64_t>(data.max_row_tokens, std::ssize(prompt.token_ids));
  data.max_row_tokens = std::min(data.max_row_tokens + o.rl.max_completion_length, config.max_position_embeddings);
}

}  // namespace

namespace {

/// gradient_accumulation_steps as given; a run that continues on other ranks has another number.
int64_t given_accumulation(const TrainOptions& o) {
  for (const auto& [name, value] : o.texts)
    if (name == "gradient_accumulation_steps") return std::max<int64_t>(1, std::atoll(value.c_str()));
  return o.gradient_accumulation_steps;
}

}  // namespace

int64_t windows_per_round(const TrainOptions& o, int num_ranks) {
  if (o.rl.steps_per_generation) {
    const int64_t accumulation = given_accumulation(o);
    if (*o.rl.steps_per_generation % accumulation != 0)
      throw_error<UsageError>(
          "--steps_per_generation: expected a multiple of --gradient_accumulation_steps {}, got {}; a step trains on "
          "completions of one round",
          accumulation, *o.rl.steps_per_generation);
    return *o.rl.steps_per_generation / accumulation;
  }
  if (!o.rl.generation_batch_size) return 1;
  const int64_t rows = o.per_device_train_batch_size * num_ranks * o.gradient_accumulation_steps;
  if (*o.rl.generation_batch_size % rows != 0)
    throw_error<UsageError>("--generation_batch_size: expected a multiple of the {} completions of a step, got {}",
                            rows, *o.rl.generation_batch_size);
  return *o.rl.generation_batch_size / rows;
}

PolicyData open_policy_data(const Communicator& comm, const TrainOptions& o, const ModelConfig& config) {
  PolicyData data;
  comm.run_agreed([&] {
    if (o.lora.is_used() && config.mixture.num_experts > 0 && o.rl.rollouts.empty())
      throw_error<UsageError>(
          "--lora_r, --adapter: completions of a mixture of experts with an adapter are not supported yet; train the "
          "whole model, or on recorded --rollouts");
    const TokenizerSource source = model_at_start(o).tokenizer();
    const Tokenizer tokenizer = load_tokenizer(source);
    const RoundSize size = round_size(o, windows_per_round(o, comm.size()), comm.size());
    data.reward_names = reward_names(o.rl);
    data.end_ids = end_ids(source, config, tokenizer, o.data.chat_template);
    if (!o.rl.rollouts.empty()) {
      measure(o, size, config, data);
      return;
    }
    const bool keeps_rows = !o.rl.rewards.functions.empty();
    data.prompts = read_row_prompts(o.data.data, o.data, tokenizer, config, /*max_rows=*/-1, keeps_rows);
    if (!o.eval_data.empty())
      data.eval_prompts = read_row_prompts(o.eval_data, o.data, tokenizer, config, -1, keeps_rows);
    check_rows(o.rl, data.prompts);
    check_rows(o.rl, data.eval_prompts);
    measure_prompts(o, size, config, data);
    const PromptForm form = data.prompts.prompts[0].form;
    if (form != PromptForm::kText) data.template_name = o.data.chat_template;
  });
  if (comm.rank() == 0) {
    if (!o.rl.rollouts.empty() && !o.data.data.empty())
      log_info("--data is not read: prompts, completions and rewards are those of --rollouts");
    log_left_out(data.prompts, "data");
    log_left_out(data.eval_prompts, "eval_data");
    const SamplingOptions sampling = o.rl.sampling();
    if (o.rl.rollouts.empty() &&
        (sampling.top_k > 0 || sampling.top_p < 1 || sampling.min_p > 0 || sampling.repetition_penalty != 1))
      log_warning(
          "top_k, top_p, min_p and repetition_penalty change what is sampled, but not the log-probabilities of the "
          "loss: ratios and KL divergence are then those of another distribution");
    log_info("rounds of {} completions of {} prompts, trained in {} steps each", data.layout.rows_per_round,
             data.layout.prompts_per_round(), data.layout.steps_per_round());
  }
  return data;
}

}  // namespace plumb
