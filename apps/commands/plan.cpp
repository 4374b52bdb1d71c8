// plumb plan: the memory that a run with these options needs per rank and node, without starting it.
#include <fmt/format.h>

#include <algorithm>

#include "apps/commands/commands.hpp"
#include "apps/models/adapter_setup.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/models/plan_input.hpp"
#include "apps/options/pipeline_file.hpp"
#include "apps/options/train_options.hpp"
#include "io/file/file.hpp"
#include "io/run/process_memory.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

struct PlanOptions {
  Stage stage = Stage::kSft;
  int num_ranks = 1;
  int ranks_per_node = 0;
  double node_memory_gib = 0;
};

std::vector<BoundOption> bind_options(PlanOptions& o) {
  constexpr OptionGroup kPlan = OptionGroup::kPlan;
  return {declare("stage", kPlan, o.stage, "stage of training, which decides which other options there are"),
          declare("num_ranks", kPlan, o.num_ranks, "ranks of the run", {.range = at_least(1)}),
          declare("ranks_per_node", kPlan, o.ranks_per_node, "0: all on one node", {.range = at_least(0)}),
          declare("node_memory", kPlan, o.node_memory_gib,
                  "GiB that a node has for the run; a plan that does not fit is refused; 0: do not check",
                  {.range = at_least(0)})};
}

/// From the model's configuration, without its weights.
PlannedModel planned_model(const TrainOptions& o) {
  const std::string path = join_path(o.model.model, "config.json");
  PlannedModel model;
  model.config = parse_model_config(read_text_file(path, 16 << 20), path);
  model.config.head = o.stage == Stage::kReward ? HeadKind::kScore : HeadKind::kLanguageModel;
  if (o.lora.is_used()) {
    const AdapterStart start = find_adapter(o.lora, model.config, o.model.model);
    model.config = start.base;
    model.adapter = start.adapter;
  }
  if (o.lora.quantize == Quantization::kNf4 || model.config.is_quantized) model.nf4_format = nested_nf4;
  return model;
}

int run_plan(const Settings& settings) {
  PlanOptions plan_options;
  const std::vector<Option> own = options_of(bind_options(plan_options));
  Settings own_settings, of_stage;
  for (const Setting& setting : settings) (find_option(own, setting.name) ? own_settings : of_stage).push_back(setting);
  parse(bind_options(plan_options), own_settings);
  for (const Setting& setting : of_stage) check_known_option(setting, {plan_options.stage});
  const TrainOptions o = parse_train_options(plan_options.stage, of_stage);
  validate(o);
  warm_up_libraries();
  const int num_ranks = plan_options.num_ranks;
  const int ranks_per_node = plan_options.ranks_per_node > 0 ? plan_options.ranks_per_node : num_ranks;
  const PlannedRanks ranks{num_ranks, ranks_per_node, std::max(1, o.model.threads), expected_set_bytes(ranks_per_node)};
  const PlannedModel model = planned_model(o);
  const PlanInput input = plan_input(o, model, ranks, max_row_tokens(o, model.config));
  const MemoryPlan plan = plan_memory(input);
  fmt::print("{}\n", render_plan(input, plan));
  check_fits(input, plan, static_cast<int64_t>(plan_options.node_memory_gib * (1 << 30)));
  return kExitDone;
}

}  // namespace

Command plan_command() {
  PlanOptions defaults;
  std::vector<Option> options = training_options();
  for (const Option& option : options_of(bind_options(defaults))) options.push_back(option);
  return {{.name = "plan",
           .summary = "memory per rank of a run, without running it",
           .usage = "--model DIR --num_ranks N [--stage sft|reward|dpo|grpo|rloo] [training options]",
           .example = "plumb plan --model MODEL_DIR --num_ranks 8 --dtype bfloat16 --max_length 2048",
           .required = {"model"}},
          options,
          run_plan};
}

}  // namespace plumb
