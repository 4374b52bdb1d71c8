// plumb evaluate: metrics of a model on rows. For a language model these are loss, perplexity, token accuracy and exact
// match of rows for SFT, and the metrics of DPO of preference pairs, relative to a reference model. For a reward model
// they are how often it prefers the chosen text, overall and by length. With rewards, rows are prompts, and the metrics
// are those of completions by the language model.
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands/commands.hpp"
#include "apps/commands/evaluate_completions.hpp"
#include "apps/commands/scratch_directory.hpp"
#include "apps/models/adapter_setup.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/models/model_text.hpp"
#include "apps/models/reward_model.hpp"
#include "apps/options/prepare_options.hpp"
#include "apps/run/data_files.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "apps/train/stage_data.hpp"
#include "apps/train/trainer.hpp"
#include "io/dataset/batch_stream.hpp"
#include "io/dataset/prepare.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/log.hpp"
#include "lib/objective/dpo.hpp"
#include "lib/objective/sft.hpp"

namespace plumb {

namespace {

using nlohmann::ordered_json;

struct EvaluateOptions {
  ModelOptions model;
  DataOptions data;
  std::string adapter;
  std::string ref_model;
  double beta = 0.1;
  int64_t batch_size = 8;
  CompletionOptions completions;
};

/// Loss and metrics of a language model.
ordered_json evaluate_language_model(const Communicator& comm, const EvaluateOptions& o, const HfModel& source,
                                     StageRows& rows) {
  const bool has_pairs = rows.dataset->index().kind == kPairsKind;
  std::unique_ptr<Objective> objective;
  if (has_pairs) {
    comm.run_agreed([&] {
      if (o.ref_model.empty())
        throw UsageError("preference pairs under a language model: name the --ref_model that it is compared with");
    });
    add_reference_logps(comm, {o.ref_model}, rows);
    DpoOptions options;
    options.beta = o.beta;
    objective = std::make_unique<DpoObjective>(options, source.config().output());
  } else {
    objective = std::make_unique<SftObjective>(source.config().output(), TokenLoss::kNll);
  }
  const std::unique_ptr<AdaptedModel> model =
      load_frozen_model(comm, source.config(), source, "", scalar_type(o.model.dtype));
  const double begin = steady_seconds();
  double next_report = begin;
  const auto report = [&](int64_t num_rows) {
    constexpr double kReportSeconds = 10;
    if (comm.rank() > 0 || steady_seconds() < next_report) return;
    next_report = steady_seconds() + kReportSeconds;
    log_info("evaluate: {} of {} rows", num_rows, rows.dataset->num_rows());
  };
  const EvaluationStats stats = evaluate_rows(*model, comm, *objective, rows, o.batch_size, report);
  const double seconds = steady_seconds() - begin;
  if (comm.rank() == 0)
    log_info("evaluate: {} tokens in {:.1f} s, {:.0f} tokens/s", stats.num_tokens, seconds,
             static_cast<double>(stats.num_tokens) / seconds);
  ordered_json line;
  for (const Metric& metric : stats.metrics) line[metric.name] = metric.value;
  if (!has_pairs) line["perplexity"] = std::exp(stats.metric("loss"));
  line["num_tokens"] = stats.num_tokens;
  line[has_pairs ? "num_pairs" : "num_trained_tokens"] = stats.num_items;
  return line;
}

int evaluate(const Communicator& comm, const EvaluateOptions& o) {
  set_up_process(comm, o.model.threads);
  std::optional<HfModel> source;
  comm.run_agreed([&] { source.emplace(o.model.model, HfModelOptions{.adapter = o.adapter}); });
  const bool is_reward_model = source->config().head == HeadKind::kScore;
  const TokenizerSource tokenizer = {o.model.model, o.adapter};
  if (comm.rank() == 0) log_adapter_tokenizer(tokenizer);
  if (measures_completions(o.completions)) {
    comm.run_agreed([&] {
      if (is_reward_model)
        throw_error<UsageError>(
            "{}: a reward model completes nothing; --reward_funcs and --reward_model measure a "
            "language model",
            o.model.model);
    });
    const ordered_json line = evaluate_completions(comm, o.completions, o.model, o.adapter, with_files(comm, o.data));
    if (comm.rank() == 0) fmt::print("{}\n", line.dump());
    return kExitDone;
  }
  const ScratchDirectory scratch(comm);
  const RowUse use = is_reward_model ? RowUse::kPreference : RowUse::kAny;
  const DatasetIndex index =
      prepare_data(comm,
                   prepare_options(with_files(comm, o.data), use, /*needs_whole_texts=*/is_reward_model, tokenizer,
                                   source->config().vocab_size),
                   scratch.path());
  StageRows rows;
  comm.run_agreed([&] {
    rows.dataset = std::make_unique<Dataset>(dataset_directory(scratch.path(), index), source->config().vocab_size);
    if (source->config().rope_depends_on_length()) rows.dataset->share_no_prompts();
  });
  ordered_json line = {{"rows", rows.dataset->num_rows()}};
  if (is_reward_model) {
    RewardModel model(comm, o.model.model, scalar_type(o.model.dtype), o.adapter);
    line.update(describe_rewards(*rows.dataset, model.score(*rows.dataset, o.batch_size)));
  } else {
    line.update(evaluate_language_model(comm, o, *source, rows));
  }
  if (comm.rank() == 0) fmt::print("{}\n", line.dump());
  return kExitDone;
}

std::vector<BoundOption> bind_options(EvaluateOptions& o) {
  std::vector<BoundOption> options = plumb::bind_options(o.model);
  append(options, plumb::bind_options(o.data));
  append(options, {merged_adapter_option(o.adapter),
                   declare("ref_model", OptionGroup::kObjective, o.ref_model,
                           "reference model of preference pairs, for a language model", {.value_name = "DIR"}),
                   declare("beta", OptionGroup::kObjective, o.beta, "scale of the rewards of preference pairs",
                           {.range = above(0)}),
                   eval_batch_size_option(o.batch_size)});
  append(options, bind_options(o.completions));
  return options;
}

int run_evaluate(const EvaluateOptions& o) {
  return run_on_ranks([&](const Communicator& comm) { return evaluate(comm, o); });
}

}  // namespace

Command evaluate_command() {
  Command command = make_command<EvaluateOptions>(
      {.name = "evaluate",
       .summary = "loss, perplexity, accuracy, or pass@k of a model on rows",
       .usage = "--model DIR --data FILE... [--option value ...]",
       .example = "mpirun -n 4 plumb evaluate --model run/model --data test.jsonl --dtype bfloat16",
       .required = {"model", "data"}},
      bind_options, run_evaluate);
  command.run = [run = command.run](const Settings& settings) {
    EvaluateOptions options;
    parse(bind_options(options), settings);
    validate(options.completions, settings);
    return run(settings);
  };
  return command;
}

}  // namespace plumb
