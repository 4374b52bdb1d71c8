#include "apps/commands/inspect_step.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "apps/commands/print_rows.hpp"
#include "apps/models/adapter_setup.hpp"
#include "apps/models/stage_model.hpp"
#include "apps/options/words.hpp"
#include "apps/preference/pairs.hpp"
#include "apps/run/data_files.hpp"
#include "apps/run/output_directory.hpp"
#include "apps/train/checkpoints.hpp"
#include "apps/train/stage_data.hpp"
#include "apps/train/stage_options.hpp"
#include "io/dataset/sampler.hpp"
#include "io/file/file.hpp"
#include "io/file/json_tolerant.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/objective/objective.hpp"

namespace plumb {

namespace {

/// A run as run.json describes it. Its accumulation steps are those that one rank takes for the micro-batches of a
/// step.
struct DescribedRun {
  TrainOptions options;
  Inputs inputs;
  int64_t num_ranks = 1;  // of its last start
  int64_t num_steps = 0;
};

/// The options in run.json, where a list is one text.
Settings recorded_settings(Stage stage, const Inputs& recorded) {
  Settings settings;
  for (const auto& [name, value] : recorded) {
    if (value.empty()) continue;
    const Option* option = find_option(training_options(stage), name);
    const bool is_list = option != nullptr && option->is_list;
    for (const std::string& word : is_list ? split_words(value) : std::vector<std::string>{value})
      settings.push_back({name, word, "run.json: "});
  }
  return settings;
}

DescribedRun read_run(const std::string& directory) {
  std::vector<std::string> problems;
  const OrderedJson run = read_json_file(directory + "/run.json", problems);
  if (!problems.empty()) throw DataError(problems.front());
  const std::string command = get_text(run, "command");
  for (const Stage stage : kStages) {
    if (name_of(stage) != command) continue;
    DescribedRun described{
        parse_train_options(stage, recorded_settings(stage, inputs_from_json(get_or_null(run, "options")))),
        inputs_from_json(get_or_null(run, "inputs")), 1, get_count(run, "num_steps")};
    described.num_ranks = std::max<int64_t>(1, get_count(run, "ranks"));
    described.options.output_dir = directory;
    if (const int64_t micro_batches = micro_batches_per_step(described.inputs); micro_batches > 0)
      described.options.gradient_accumulation_steps = micro_batches;
    validate(described.options);
    return described;
  }
  throw_error<UsageError>("--run {}: expected the output_dir of plumb sft, reward or dpo, with its run.json",
                          directory);
}

/// A model, and what to call it.
struct ShownModel {
  std::unique_ptr<TrainableModel> model;
  std::string name;
};

ShownModel load_frozen(const Communicator& comm, const TrainOptions& o, const ModelSource& source) {
  const HfModel weights(source.model,
                        beside_adapter({.head = head_of(o.stage), .quantizes = source.is_quantized}, source.adapter));
  return {load_frozen_model(comm, weights.config(), weights, source.adapter, scalar_type(o.model.dtype)),
          source.adapter.empty() ? source.model : source.adapter};
}

ShownModel load_checkpoint(const Communicator& comm, TrainOptions o, const Checkpoint& checkpoint) {
  o.gradient_accumulation_steps = 1;
  const HfModel source = open_source(o.model, o.lora, head_of(o.stage), o.seed);
  std::unique_ptr<TrainableModel> model;
  if (o.lora.is_used()) {
    std::unique_ptr<AdaptedModel> adapted =
        load_adapted_model(comm, source.config(), source, find_adapter(o.lora, source.config(), source.directory()),
                           engine_options(o, source.config()), static_cast<uint64_t>(o.seed));
    adapted->set_dropout(0);
    model = std::move(adapted);
  } else {
    model = std::make_unique<ShardedModel>(source.config(), comm, engine_options(o, source.config()));
  }
  restore_model(comm, checkpoint, *model);
  return {std::move(model), checkpoint.path};
}

/// No model where the run has none yet.
ShownModel load_shown_model(const Communicator& comm, const DescribedRun& run, int64_t step,
                            const std::string& model_directory) {
  const TrainOptions& o = run.options;
  if (!model_directory.empty()) return load_frozen(comm, o, {model_directory});
  if (const auto checkpoint = open_newest_checkpoint(comm, o.output_dir, run.inputs, step - 1))
    return load_checkpoint(comm, o, *checkpoint);
  const bool is_exported = is_regular_file(o.output_dir + "/model/config.json") ||
                           is_regular_file(o.output_dir + "/adapter/adapter_config.json");
  return is_exported ? load_frozen(comm, o, trained_model(o.output_dir, o.model, o.lora)) : ShownModel{};
}

MicroBatch batch_of_example(const StageRows& rows, int64_t example) {
  MicroBatch batch;
  append_rows(batch, rows.dataset->examples(example, example + 1));
  if (rows.reference_logps) batch.reference_logps = rows.reference_logps->read(example, example + 1);
  return batch;
}

/// The rows of the run, and where a step takes them from. Throws DataError where files are not what they were.
StageRows open_rows_of_run(const Communicator& comm, const DescribedRun& run, int64_t vocab_size) {
  const TrainOptions& o = run.options;
  const std::string changes = describe_changes(run.inputs, describe_inputs(comm, o));
  if (!changes.empty())
    throw_error<DataError>("{}: expected the files that the run was made from, got others: {}", o.output_dir, changes);
  DataOptions data = o.data;
  StageNotes notes(/*is_shown=*/false);
  if (o.stage == Stage::kDpo) data = choose_pairs(comm, pair_setting(o), notes);
  StageRows rows = open_rows(comm, rows_options(o), data, vocab_size);
  if (o.stage == Stage::kDpo) add_reference_logps(comm, reference_model(o.dpo.ref_model, model_at_start(o)), rows);
  return rows;
}

}  // namespace

void inspect_step(const Communicator& comm, const std::string& run_directory, int64_t step,
                  const std::string& model_directory) {
  DescribedRun run = read_run(run_directory);
  run.options = with_files(comm, std::move(run.options));
  const TrainOptions& o = run.options;
  if (makes_rollouts(o.stage))
    throw_error<UsageError>("--step: {} has no steps of data rows; the completions of each round are in {}/rollouts",
                            run_directory, run_directory);
  if (step < 1 || step > run.num_steps)
    throw_error<UsageError>("--step: expected 1 to {}, the steps of {}, got {}", run.num_steps, run_directory, step);
  set_up_process(comm, o.model.threads);
  ModelConfig config = open_source(o.model, o.lora, head_of(o.stage), o.seed).config();
  if (o.stage == Stage::kReward) config.pad_token_id = padding_id(model_at_start(o).tokenizer());
  const StageRows rows = open_rows_of_run(comm, run, config.vocab_size);
  const std::unique_ptr<Objective> objective = make_objective(o, config);
  const ShownModel shown = load_shown_model(comm, run, step, model_directory);
  const Tokenizer tokenizer = load_tokenizer(model_at_start(o).tokenizer());

  const SamplerOptions sampler = sampler_options(o, rows);
  const StepLayout layout = make_step_layout(sampler, rows.dataset->num_rows(), comm.size());
  fmt::print("step {} of {}, {} micro-batches on {} ranks; {}\n", step, run_directory, layout.micro_batches_per_step,
             run.num_ranks,
             shown.model ? "losses of each row by itself, of " + shown.name
                         : "no losses: there is no model before it, so name one with --model");
  for (int64_t micro_batch = 0; micro_batch < layout.micro_batches_per_step; ++micro_batch)
    for (const int64_t row : rows_of_micro_batch(sampler, layout, step - 1, micro_batch))
      for (const int64_t example : rows.dataset->examples_of_row(row)) {
        const TokenRows tokens = rows.dataset->examples(example, example + 1);
        std::string heading = fmt::format("micro-batch {}, rank {}, source row {}", micro_batch,
                                          micro_batch % run.num_ranks, tokens.row_ids.front());
        if (shown.model) {
          const auto start = [&] { return [&] { return std::vector{batch_of_example(rows, example)}; }; };
          heading +=
              fmt::format(", loss {:.6g}", evaluate_model(*shown.model, comm, *objective, 1, start).metric("loss"));
        }
        print_row(tokenizer, tokens, heading);
      }
}

}  // namespace plumb
