// plumb plan: what a run of these options would take, per rank and node, before anything is started.
#include <fmt/format.h>

#include <algorithm>

#include "apps/commands/commands.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/options/train_options.hpp"
#include "apps/run/output_directory.hpp"
#include "io/file/file.hpp"
#include "io/huggingface/peft_adapter.hpp"
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

/// Without the model's weights.
Adapter planned_adapter(const LoraOptions& options, const ModelConfig& config) {
  if (!options.adapter.empty()) return PeftAdapter(options.adapter, config).adapter();
  const bool has_score = config.head == HeadKind::kScore;
  return resolve_options(lora_config(options, has_score ? "SEQ_CLS" : "CAUSAL_LM", ""), config);
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
  const std::string config_path = join_path(o.model.model, "config.json");
  ModelConfig config = parse_model_config(read_text_file(config_path, 16 << 20), config_path);
  config.head = o.stage == Stage::kReward ? HeadKind::kScore : HeadKind::kLanguageModel;
  std::optional<Adapter> adapter;
  if (o.lora.is_used()) adapter = planned_adapter(o.lora, config);
  const int64_t documents = o.stage == Stage::kSft ? 1 : 2;  // a pair is two texts
  const PlanInput input{.config = config,
                        .num_ranks = num_ranks,
                        .ranks_per_node = ranks_per_node > 0 ? ranks_per_node : num_ranks,
                        .num_threads = std::max(1, o.model.threads),
                        .element_bytes = o.model.dtype == "bfloat16" ? 2 : 4,
                        .accumulation_steps = o.gradient_accumulation_steps,
                        .micro_batch_tokens = o.per_device_train_batch_size * documents * o.data.max_length,
                        .has_gradient_checkpointing = o.gradient_checkpointing,
                        .reduction = parse_reduction(o.reduction),
                        .has_8bit_moments = has_8bit_moments(o),
                        .has_async_save = o.async_save && o.save_steps > 0,
                        .adapter = adapter,
                        .nf4_format = o.lora.quantize == "nf4" ? nested_nf4 : nullptr,
                        .program_bytes = expected_set_bytes(ranks_per_node > 0 ? ranks_per_node : num_ranks)};
  const MemoryPlan plan = plan_memory(input);
  fmt::print("{}\n", render_plan(input, plan));
  check_fits(input, plan, static_cast<int64_t>(node_memory_gib * (1 << 30)));
  return kExitDone;
}

}  // namespace plumb
