// plumb merge: a model with the adapter in its weights, as an unquantized Hugging Face directory. The sum of
// dequantized base and adapter is made in float32 and rounded once; what the rounding costs is measured and printed.
// Only where it is asked for is the result quantized again, and what that costs is printed too.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/commands/commands.hpp"
#include "apps/commands/merge_probe.hpp"
#include "apps/commands/scratch_directory.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/models/model_text.hpp"
#include "apps/options/lora_options.hpp"
#include "apps/options/prepare_options.hpp"
#include "apps/run/data_files.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "io/dataset/prepare.hpp"
#include "io/file/atomic_directory.hpp"
#include "io/huggingface/hf_export.hpp"
#include "io/huggingface/peft_adapter.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "partition/shard_layout.hpp"

namespace plumb {

namespace {

using nlohmann::ordered_json;

constexpr int64_t kPieceElements = int64_t{1} << 20;

struct MergeOptions {
  std::string model, adapter, output_dir;
  Precision dtype = Precision::kBfloat16;
  Quantization quantize = Quantization::kNone;
  std::vector<std::string> probe;
  bool overwrite_output_dir = false;
  int threads = 0;
};

/// The base, and the same with the adapter in it.
struct MergeModels {
  std::optional<HfModel> base, merged;
  ModelConfig config;  // of what is written
};

MergeModels open_models(const MergeOptions& o) {
  MergeModels models;
  models.merged.emplace(o.model, HfModelOptions{.adapter = o.adapter});
  models.config = models.merged->config();
  if (models.config.head == HeadKind::kScore) {
    if (!models.merged->has_score())
      throw_error<UsageError>("{}: expected a score head in the model or in the adapter {}, got neither", o.model,
                              o.adapter);
    if (models.config.pad_token_id < 0) models.config.pad_token_id = padding_id({o.model, o.adapter});
  }
  models.base.emplace(o.model, HfModelOptions{.head = models.config.head});
  models.config.is_quantized = false;
  return models;
}

/// "q_proj" for the largest change of any layer's.
using LargestDelta = std::map<std::string, double>;

std::string name_of(const Parameter& parameter) {
  const std::string path = module_path(parameter);
  return path.substr(path.rfind('.') + 1);
}

void note_deltas(const UnitLayout& unit, int64_t begin, std::span<const float> base, std::span<const float> merged,
                 LargestDelta& largest) {
  const int64_t end = begin + std::ssize(base);
  for (const Parameter& parameter : unit.parameters) {
    const int64_t first = std::max(begin, parameter.offset);
    const int64_t last = std::min(end, parameter.offset + parameter.num_elements());
    float delta = 0;
    for (int64_t i = first; i < last; ++i) {
      const auto index = static_cast<size_t>(i - begin);
      delta = std::max(delta, std::abs(merged[index] - base[index]));
    }
    if (delta > 0) largest[name_of(parameter)] = std::max<double>(largest[name_of(parameter)], delta);
  }
}

/// A resized embedding or head has no values in the base to compare with.
bool is_comparable(const UnitLayout& unit, const MergeModels& models) {
  if (models.base->config().vocab_size == models.merged->config().vocab_size) return true;
  return std::none_of(unit.parameters.begin(), unit.parameters.end(), [](const Parameter& parameter) {
    return parameter.kind == ParameterKind::kEmbedding || parameter.kind == ParameterKind::kHead;
  });
}

/// Any rank: its share of every unit.
void write_share(const Communicator& comm, const MergeModels& models, const ExportPlan& plan,
                 const std::string& temporary, LargestDelta& largest) {
  std::vector<float> base, merged;
  for (size_t unit = 0; unit < plan.units.size(); ++unit) {
    const ShardLayout layout(models.merged->units()[unit], comm.size());
    const ElementRange range = layout.shard(comm.rank());
    for (int64_t begin = range.begin; begin < range.end; begin += kPieceElements) {
      const int64_t end = std::min(begin + kPieceElements, range.end);
      base.resize(end - begin);
      merged.resize(base.size());
      models.merged->read_unit_range(layout.unit(), begin, end, merged);
      if (is_comparable(layout.unit(), models)) {
        models.base->read_unit_range(layout.unit(), begin, end, base);
        note_deltas(layout.unit(), begin, base, merged, largest);
      }
      write_unit_range(plan, temporary, unit, begin, end, merged);
    }
  }
}

/// Collective: every rank gets the largest of all.
LargestDelta reduce(const Communicator& comm, const LargestDelta& mine) {
  std::vector<std::string> names;
  std::vector<double> deltas;
  for (const auto& [name, delta] : mine) {
    names.push_back(name);
    deltas.push_back(delta);
  }
  const std::vector<std::vector<std::string>> names_of_ranks = comm.all_gather(names);
  const std::vector<std::vector<double>> deltas_of_ranks = comm.all_gather(deltas);
  LargestDelta all;
  for (size_t rank = 0; rank < names_of_ranks.size(); ++rank)
    for (size_t i = 0; i < names_of_ranks[rank].size(); ++i) {
      double& largest = all[names_of_ranks[rank][i]];
      largest = std::max(largest, deltas_of_ranks[rank][i]);
    }
  return all;
}

/// Collective.
LargestDelta write_merged(const Communicator& comm, const MergeModels& models, const MergeOptions& o,
                          const std::string& directory, ExistingDirectory existing) {
  const ExportPlan plan = plan_export(models.merged->units(), file_dtype(o.dtype));
  ExportedText text;  // on rank 0
  comm.run_on_rank0([&] {
    log_adapter_tokenizer({o.model, o.adapter});
    text = exported_text({o.model, o.adapter}, load_tokenizer({o.model, o.adapter}), /*template_name=*/"");
  });
  LargestDelta largest;
  export_by_all(
      comm, plan.files, directory, existing,
      [&](const std::string& temporary) { write_share(comm, models, plan, temporary, largest); },
      [&](const std::string& temporary) { finish_export(plan, temporary, models.config, text); });
  return reduce(comm, largest);
}

ReadUnit reader_of(const HfModel& model) {
  return [&](const UnitLayout& unit, std::span<float> values) {
    model.read_unit_range(unit, 0, unit.num_elements, values);
  };
}

ordered_json describe(const ProbeResult& result, const ModelConfig& config) {
  if (config.head == HeadKind::kScore)
    return {{"tokens", result.num_tokens}, {"max_reward_difference", result.max_reward_difference}};
  return {{"tokens", result.num_tokens},
          {"mean_kl", result.mean_kl},
          {"max_kl", result.max_kl},
          {"same_best_token", result.same_best}};
}

/// Collective: the texts to probe with, on rank 0.
MicroBatch find_probe(const Communicator& comm, const MergeOptions& o, const ModelConfig& config) {
  MicroBatch batch;
  if (o.probe.empty()) {
    comm.run_on_rank0([&] { batch = probe_batch({o.model, o.adapter}, config, nullptr); });
    return batch;
  }
  const ScratchDirectory scratch(comm);
  DataOptions data;
  data.data = o.probe;
  data = with_files(comm, data);
  const DatasetIndex index = prepare_data(
      comm, prepare_options(data, RowUse::kAny, /*needs_whole_texts=*/false, {o.model, o.adapter}, config.vocab_size),
      scratch.path());
  comm.run_on_rank0([&] {
    const Dataset dataset(dataset_directory(scratch.path(), index), config.vocab_size);
    batch = probe_batch({o.model, o.adapter}, config, &dataset);
  });
  return batch;
}

int merge(const Communicator& comm, const MergeOptions& o) {
  set_up_process(comm, o.threads);
  MergeModels models;
  comm.run_agreed([&] { models = open_models(o); });
  const MicroBatch probe = find_probe(comm, o, models.config);
  const ExistingDirectory existing = o.overwrite_output_dir ? ExistingDirectory::kReplace : ExistingDirectory::kRefuse;
  const bool quantizes = o.quantize != Quantization::kNone;
  // a model that is then quantized is first written whole beside the result, which rank 0 removes at the end
  std::optional<AtomicDirectory> unquantized;
  const std::string merged_directory = comm.from_rank0([&] {
    if (!quantizes) return o.output_dir;
    const AtomicDirectory refused_early(o.output_dir, existing);
    unquantized.emplace(refused_early.path() + ".merged");
    return unquantized->temporary_path() + "/model";
  });
  const LargestDelta largest = write_merged(comm, models, o, merged_directory, existing);

  ordered_json line = {{"adapter", o.adapter}, {"max_abs_delta", largest}};
  comm.run_on_rank0([&] {
    const HfModel written(merged_directory);
    line["rounding"] =
        describe(compare_models(models.config, probe, reader_of(*models.merged), reader_of(written)), models.config);
  });
  if (quantizes) {
    std::optional<HfModel> quantized;
    comm.run_agreed([&] { quantized.emplace(merged_directory, HfModelOptions{.quantizes = true}); });
    export_quantized(comm, *quantized, o.output_dir, existing);
    comm.run_on_rank0([&] {
      line["quantizing"] = describe(
          compare_models(models.config, probe, reader_of(*models.merged), reader_of(*quantized)), models.config);
    });
  }
  if (comm.rank() == 0) fmt::print("{}\n", line.dump());
  return kExitDone;
}

std::vector<BoundOption> bind_options(MergeOptions& o) {
  return {
      declare("model", OptionGroup::kModel, o.model, "directory of the base model, quantized or not",
              {.value_name = "DIR"}),
      declare("adapter", OptionGroup::kModel, o.adapter, "PEFT adapter directory", {.value_name = "DIR"}),
      declare("output_dir", OptionGroup::kOutput, o.output_dir, "directory of the merged model", {.value_name = "DIR"}),
      declare("dtype", OptionGroup::kOutput, o.dtype, "number format of the merged weights"),
      declare("probe", OptionGroup::kData, o.probe,
              "files of rows on which the effect of rounding is measured; by default a few built-in texts",
              {.value_name = "FILE"}),
      declare("quantize", OptionGroup::kOutput, o.quantize, "quantize the merged model again, which loses precision"),
      threads_option(o.threads),
      overwrite_option(o.overwrite_output_dir, "replace a model that is already there"),
  };
}

int run_merge(const MergeOptions& o) {
  return run_on_ranks([&](const Communicator& comm) { return merge(comm, o); });
}

}  // namespace

Command merge_command() {
  return make_command<MergeOptions>(
      {.name = "merge",
       .summary = "a model with an adapter merged into its weights",
       .usage = "--model DIR --adapter DIR --output_dir DIR",
       .example = "mpirun -n 4 plumb merge --model MODEL_DIR --adapter run/adapter --output_dir merged",
       .required = {"model", "adapter", "output_dir"}},
      bind_options, run_merge);
}

}  // namespace plumb
