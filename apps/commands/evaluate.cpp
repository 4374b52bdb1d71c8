// plumb evaluate: what a model makes of rows. A language model: loss, perplexity, token accuracy and exact match of
// rows to fine-tune on; of preference pairs, beside a reference model, the metrics of DPO. A reward model: how often it
// prefers the chosen text, overall and by length.
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands/commands.hpp"
#include "apps/commands/scratch_directory.hpp"
#include "apps/models/adapter_setup.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/models/reward_model.hpp"
#include "apps/options/prepare_options.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "apps/train/stage_data.hpp"
#include "apps/train/trainer.hpp"
#include "io/dataset/batch_stream.hpp"
#include "io/dataset/prepare.hpp"
#include "lib/base/check.hpp"
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
    objective = std::make_unique<DpoObjective>(options, source.config().rms_norm_eps);
  } else {
    objective = std::make_unique<SftObjective>(source.config().rms_norm_eps, TokenLoss::kNll);
  }
  const std::unique_ptr<AdaptedModel> model =
      load_frozen_model(comm, source.config(), source, "", scalar_type(o.model.dtype));
  const EvaluationStats stats = evaluate_rows(*model, comm, *objective, rows, o.batch_size);
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
  const ScratchDirectory scratch(comm);
  const RowUse use = is_reward_model ? RowUse::kPreference : RowUse::kAny;
  const DatasetIndex index = prepare_data(
      comm,
      prepare_options(o.data, use, /*needs_whole_texts=*/is_reward_model, o.model.model, source->config().vocab_size),
      scratch.path());
  StageRows rows;
  comm.run_agreed([&] {
    rows.dataset = std::make_unique<Dataset>(dataset_directory(scratch.path(), index), source->config().vocab_size);
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

}  // namespace

int run_evaluate(const std::vector<std::string>& arguments) {
  EvaluateOptions options;
  OptionsDescription description("options of plumb evaluate");
  declare(description, options.model);
  declare(description, options.data);
  auto add = description.add_options();
  add("adapter", with_default(options.adapter), "PEFT adapter directory, merged into the weights");
  add("ref_model", with_default(options.ref_model),
      "of preference pairs under a language model: what it is compared with");
  add("beta", with_default(options.beta), "of the rewards of preference pairs");
  add("per_device_eval_batch_size", with_default(options.batch_size), "rows of a micro-batch");
  if (!parse_options("plumb evaluate --model DIR --data FILE...", description, {"model", "data"}, arguments))
    return kExitDone;
  check_range(options.batch_size >= 1, "per_device_eval_batch_size", "at least 1",
              static_cast<double>(options.batch_size));
  return run_on_ranks([&](const Communicator& comm) { return evaluate(comm, options); });
}

}  // namespace plumb
