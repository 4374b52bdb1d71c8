// plumb plan: the memory that a run with these options needs per rank and node and, on a measured machine, the time of
// its steps, without starting it.
#include <fmt/format.h>

#include <algorithm>

#include "apps/commands/commands.hpp"
#include "apps/doctor/machine_file.hpp"
#include "apps/models/adapter_setup.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/models/plan_input.hpp"
#include "apps/options/pipeline_file.hpp"
#include "apps/options/train_options.hpp"
#include "io/file/file.hpp"
#include "io/run/process_memory.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

struct PlanOptions {
  Stage stage = Stage::kSft;
  int num_ranks = 1;
  int ranks_per_node = 0;
  double node_memory_gib = 0;
  std::string machine;
};

std::vector<BoundOption> bind_options(PlanOptions& o) {
  constexpr OptionGroup kPlan = OptionGroup::kPlan;
  return {declare("stage", kPlan, o.stage, "stage of training, which decides which other options there are"),
          declare("num_ranks", kPlan, o.num_ranks, "ranks of the run", {.range = at_least(1)}),
          declare("ranks_per_node", kPlan, o.ranks_per_node, "0: all on one node", {.range = at_least(0)}),
          declare("node_memory", kPlan, o.node_memory_gib,
                  "GiB that a node has for the run; a plan that does not fit is refused; 0: do not check",
                  {.range = at_least(0)}),
          declare("machine", kPlan, o.machine,
                  "file of plumb doctor --measure: also prints the time of a step on that machine",
                  {.value_name = "FILE"})};
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

/// Logs where the file was measured with other ranks or threads than the plan has.
void log_differences(const MeasuredMachine& measured, const PlanInput& input) {
  if (measured.ranks_per_host == input.ranks_per_node && measured.threads_per_rank == input.num_threads) return;
  log_warning(
      "--machine: measured by {} ranks of {} threads on a host, the plan has {} of {}; ranks share cores and memory, "
      "so "
      "measure with those of the run",
      measured.ranks_per_host, measured.threads_per_rank, input.ranks_per_node, input.num_threads);
}

void print_time(const TrainOptions& o, const PlanInput& input, const MemoryPlan& plan, const std::string& path) {
  const MeasuredMachine measured = read_machine(path);
  log_differences(measured, input);
  const int64_t text_tokens = std::max<int64_t>(1, input.micro_batch_tokens / o.per_device_train_batch_size);
  const int64_t num_steps = std::max<int64_t>(0, o.max_steps);
  fmt::print("{}\n", render_cost(cost_of_step(input, plan, text_tokens, measured.machine), num_steps));
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
  if (!plan_options.machine.empty()) print_time(o, input, plan, plan_options.machine);
  check_fits(input, plan, static_cast<int64_t>(plan_options.node_memory_gib * (1 << 30)));
  return kExitDone;
}

}  // namespace

Command plan_command() {
  PlanOptions defaults;
  std::vector<Option> options = training_options();
  for (const Option& option : options_of(bind_options(defaults))) options.push_back(option);
  return {{.name = "plan",
           .summary = "memory per rank and time of a run, without running it",
           .usage = "--model DIR --num_ranks N [--stage sft|reward|dpo|grpo|rloo] [training options]",
           .example = "plumb plan --model MODEL_DIR --num_ranks 8 --dtype bfloat16 --max_length 2048",
           .required = {"model"}},
          options,
          run_plan};
}

}  // namespace plumb
