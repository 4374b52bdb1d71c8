#include "apps/commands/evaluate_completions.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "apps/models/model_setup.hpp"
#include "apps/models/model_text.hpp"
#include "apps/rollout/rollout_maker.hpp"
#include "apps/rollout/round.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/log.hpp"
#include "lib/base/random.hpp"

namespace plumb {

namespace {

using nlohmann::ordered_json;

struct Prompts {
  ModelConfig config;
  std::vector<int32_t> end_ids;
  RowPrompts rows;
};

Prompts read_prompts(const CompletionOptions& o, const ModelSource& model, const DataOptions& data) {
  Prompts prompts;
  prompts.config = HfModel(model.model, model.options(HeadKind::kLanguageModel)).config();
  const Tokenizer tokenizer = load_tokenizer(model.tokenizer());
  prompts.end_ids = end_ids(model.tokenizer(), prompts.config, tokenizer, data.chat_template);
  prompts.rows = read_row_prompts(data.data, data, tokenizer, prompts.config, /*max_rows=*/-1, /*keeps_rows=*/true);
  check_rows(o.rl, prompts.rows);
  if (prompts.rows.prompts.empty())
    throw_error<DataError>(
        "--data: expected prompts, got {} rows, of which {} ask nothing and {} leave no room for a completion",
        prompts.rows.num_rows, prompts.rows.num_empty, prompts.rows.num_too_long);
  return prompts;
}

/// 1, 2, 4, ... and all.
std::vector<int64_t> numbers_of_completions(int64_t num_generations) {
  std::vector<int64_t> numbers;
  for (int64_t k = 1; k < num_generations; k *= 2) numbers.push_back(k);
  numbers.push_back(num_generations);
  return numbers;
}

/// pass@k by the first function that says what is right, and by others under their names.
void add_passes(const RolloutStageOptions& o, const Round& round, ordered_json& line) {
  std::string prefix;
  for (size_t i = 0; i < o.rewards.functions.size(); ++i) {
    const RewardFunction function = o.rewards.functions[i];
    if (!is_verdict(function)) continue;
    for (const int64_t k : numbers_of_completions(o.num_generations)) {
      const double pass = pass_at(k, round, o.num_generations, o.reward_model.size() + i);
      line[prefix + "pass@" + std::to_string(k)] = std::isnan(pass) ? ordered_json() : ordered_json(pass);
    }
    prefix = "rewards/" + std::string(name_of(function)) + "/";
  }
}

}  // namespace

std::vector<BoundOption> bind_options(CompletionOptions& o) {
  std::vector<BoundOption> options = bind_evaluation_options(o.rl);
  append(options, {declare("seed", OptionGroup::kSampling, o.seed, "seed of sampling", {.range = at_least(0)})});
  return options;
}

bool measures_completions(const CompletionOptions& o) { return o.rl.num_rewards() > 0; }

void validate(const CompletionOptions& o, const Settings& settings) {
  if (measures_completions(o)) {
    validate_evaluation(o.rl);
    for (const char* name :
         {"ref_model", "beta", "per_device_eval_batch_size", "completion_only_loss", "assistant_only_loss"})
      if (has_setting(settings, name))
        throw_error<UsageError>("--{}: completions with rewards have none; leave it out", name);
    return;
  }
  CompletionOptions defaults;
  for (const BoundOption& option : bind_options(defaults))
    if (has_setting(settings, option.option.name))
      throw_error<UsageError>("--{}: only completions have it; add --reward_funcs or --reward_model",
                              option.option.name);
}

ordered_json evaluate_completions(const Communicator& comm, const CompletionOptions& o, const ModelOptions& model,
                                  const std::string& adapter, const DataOptions& data) {
  const ModelSource source = {model.model, adapter, false, data.eos_token, data.tokenizer_behavior};
  Prompts prompts;
  comm.run_agreed([&] { prompts = read_prompts(o, source, data); });
  const RowPrompts& rows = prompts.rows;
  if (comm.rank() == 0 && rows.num_empty + rows.num_too_long > 0)
    log_warning("--data: of {} rows, {} ask nothing and {} leave no room for a completion; they are left out",
                rows.num_rows, rows.num_empty, rows.num_too_long);
  RolloutMaker maker({comm, o.rl, data, prompts.config, model.dtype, source.tokenizer(), prompts.end_ids,
                      /*program_log=*/"/dev/stderr"});
  maker.use(source);
  std::vector<int64_t> chosen(rows.prompts.size());
  std::iota(chosen.begin(), chosen.end(), int64_t{0});
  const double begin = steady_seconds();
  Round round;
  round.rollouts =
      maker.generate(rows, chosen, o.rl.num_generations, random_bits(static_cast<uint64_t>(o.seed), 0, 0), 1);
  if (comm.rank() == 0) log_info("evaluate: {} completions in {:.1f} s", round.num_rows(), steady_seconds() - begin);
  maker.score(rows, chosen, round.rollouts);
  mark_truncated(round, prompts.end_ids, /*masks_truncated=*/false);
  ordered_json line = {{"rows", rows.num_rows}, {"prompts", rows.prompts.size()}, {"completions", round.num_rows()}};
  add_passes(o.rl, round, line);
  for (const Metric& metric : describe_round(o.rl.reward_weights, reward_names(o.rl), round))
    line[metric.name] = metric.value;
  line["num_tokens"] = round.num_tokens();
  return line;
}

}  // namespace plumb
