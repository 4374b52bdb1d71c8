// plumb plan: what a run of these options would take, per rank and node, before anything is started.
#include <fmt/format.h>

#include <algorithm>

#include "apps/commands/commands.hpp"
#include "apps/models/adapter_setup.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/models/plan_input.hpp"
#include "apps/options/train_options.hpp"
#include "io/file/file.hpp"
#include "io/run/process_memory.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

/// The stage that the command line names, as it decides which options there are.
Stage stage_in(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i)
    for (const Stage stage : kStages) {
      const std::string name(name_of(stage));
      const bool follows = arguments[i] == "--stage" && i + 1 < arguments.size() && arguments[i + 1] == name;
      if (follows || arguments[i] == "--stage=" + name) return stage;
    }
  return Stage::kSft;
}

/// From the model's configuration, without its weights.
PlannedModel planned_model(const TrainOptions& o) {
  const std::string path = join_path(o.model.model, "config.json");
  PlannedModel model;
  model.config = parse_model_config(read_text_file(path, 16 << 20), path);
  model.config.head = o.stage == Stage::kReward ? HeadKind::kScore : HeadKind::kLanguageModel;
  if (o.lora.is_used()) model.adapter = find_adapter(o.lora, model.config, o.model.model).adapter;
  if (o.lora.quantize == Quantization::kNf4 || model.config.is_quantized) model.nf4_format = nested_nf4;
  return model;
}

}  // namespace

int run_plan(const std::vector<std::string>& arguments) {
  TrainOptions o = default_options(stage_in(arguments));
  std::string stage(name_of(o.stage));
  int num_ranks = 1, ranks_per_node = 0;
  double node_memory_gib = 0;
  OptionsDescription description("options of plumb plan");
  declare(description, o);
  namespace po = boost::program_options;
  description.add_options()("stage", with_default(stage), "sft, reward or dpo: whose options follow")(
      "num_ranks", po::value(&num_ranks)->default_value(1), "ranks of the run")(
      "ranks_per_node", po::value(&ranks_per_node)->default_value(0), "0: all on one node")(
      "node_memory", po::value(&node_memory_gib)->default_value(0, "0"),
      "GiB that a node has for the run; a plan that does not fit is refused; 0: do not check");
  if (!parse_options("plumb plan --model DIR --num_ranks N [--stage sft|reward|dpo] [training options]", description,
                     {"model"}, arguments))
    return kExitDone;
  check_one_of(stage, {"sft", "reward", "dpo"}, "stage");
  validate(o);
  if (num_ranks < 1) throw_error<UsageError>("--num_ranks: expected at least 1, got {}", num_ranks);
  warm_up_libraries();
  if (ranks_per_node == 0) ranks_per_node = num_ranks;
  const PlannedRanks ranks{num_ranks, ranks_per_node, std::max(1, o.model.threads), expected_set_bytes(ranks_per_node)};
  const PlanInput input = plan_input(o, planned_model(o), ranks, max_row_tokens(o));
  const MemoryPlan plan = plan_memory(input);
  fmt::print("{}\n", render_plan(input, plan));
  check_fits(input, plan, static_cast<int64_t>(node_memory_gib * (1 << 30)));
  return kExitDone;
}

}  // namespace plumb
