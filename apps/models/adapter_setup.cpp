#include "apps/models/adapter_setup.hpp"

#include <algorithm>

#include "apps/models/model_setup.hpp"
#include "io/huggingface/adapter_init.hpp"
#include "io/huggingface/peft_targets.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

FrozenSource frozen_source(const HfModel& base) {
  return {[&base](const UnitLayout& layout, int64_t begin, int64_t end, std::span<float> out) {
            base.read_unit_range(layout, begin, end, out);
          },
          [&base](const Parameter& parameter, std::span<std::byte> bytes) { base.read_nf4(parameter, bytes); }};
}

std::vector<FrozenUnit> frozen_units_of(const HfModel& base, const ModelConfig& config, const Adapter& adapter,
                                        at::ScalarType dtype) {
  return frozen_units(config, adapter, dtype == at::kFloat ? 4 : 2,
                      [&](const Parameter& p) { return nf4_format_of(base, p); });
}

/// The same parameter in the adapter whose training is continued; nullptr if there is none.
const Parameter* find_continued(const AdapterStart& start, const Parameter& p) {
  if (!start.continued) return nullptr;
  for (const Parameter& old : start.continued->unit().parameters)
    if (old.kind == p.kind && old.layer == p.layer && old.part == p.part) return &old;
  return nullptr;
}

/// Initial values of elements `range` of the adapter: continued ones, or new ones made from base and seed.
void fill_adapter(const HfModel& base, const AdapterStart& start, const UnitLayout& unit, uint64_t seed,
                  ElementRange range, std::span<float> out) {
  std::fill(out.begin(), out.end(), 0.0f);
  for (const Parameter& p : unit.parameters) {
    const int64_t begin = std::max(range.begin, p.offset), end = std::min(range.end, p.offset + p.num_elements());
    if (begin >= end) continue;
    const std::span<float> values = out.subspan(begin - range.begin, end - begin);
    if (const Parameter* old = find_continued(start, p))
      start.continued->read_range(old->offset + begin - p.offset, old->offset + end - p.offset, values);
    else
      initial_adapter_range(base, start.adapter, unit, seed, begin, values);
  }
}

std::unique_ptr<AdaptedModel> load(const Communicator& comm, const ModelConfig& config, const HfModel& base,
                                   const AdapterStart& start, const EngineOptions& options, uint64_t seed) {
  auto model = std::make_unique<AdaptedModel>(
      config, start.adapter, frozen_units_of(base, config, start.adapter, options.dtype), comm, options, seed);
  comm.run_agreed([&] {  // all parts are loaded when this returns
    model->load_base(frozen_source(base));
    model->load_adapter([&](ElementRange range, std::span<float> out) {
      fill_adapter(base, start, model->unit().unit(), seed, range, out);
    });
  });
  release_freed_memory();  // the float32 copies that conversion needed
  return model;
}

/// Throws UsageError with what to do instead.
void check_continues(const PeftAdapter& adapter, const ModelConfig& base, const std::string& base_directory) {
  std::string part = adapter.untrainable_part();
  if (part.empty() && adapter.model().vocab_size != base.vocab_size) part = "another vocabulary";
  if (part.empty()) return;
  throw_error<UsageError>(
      "--adapter {}: expected an adapter beside the base alone, got one with {}; merge it first (plumb merge "
      "--model {} --adapter {} --output_dir DIR) and train on the result",
      adapter.directory(), part, base_directory, adapter.directory());
}

}  // namespace

std::optional<Nf4Format> nf4_format_of(const HfModel& base, const Parameter& parameter) {
  if (base.has_adapter() || !base.is_quantized(parameter)) return std::nullopt;
  return Nf4Format{base.nf4_layout_of(parameter), base.original_dtype_of(parameter)};
}

HfModelOptions beside_adapter(HfModelOptions options, const std::string& directory) {
  options.unties_head = !directory.empty() && splits_tied_head(read_lora_config(directory));
  return options;
}

AdapterStart find_adapter(const LoraOptions& options, const ModelConfig& base, const std::string& base_directory) {
  const bool has_score = base.head == HeadKind::kScore;
  AdapterStart start;
  if (options.adapter.empty()) {
    start.config = lora_config(options, has_score ? "SEQ_CLS" : "CAUSAL_LM", base_directory);
    if (options.lora_target_modules == LoraOptions().lora_target_modules)  // attention, whatever its matrices are named
      start.config.target_modules = {attention_module_names(base), ""};
    name_all_linear(start.config, base);
  } else {
    ModelConfig config = base;
    const LoraConfig old = read_lora_config(options.adapter);
    const bool had_score =
        std::find(old.modules_to_save.begin(), old.modules_to_save.end(), "score") != old.modules_to_save.end();
    if (!had_score) config.head = HeadKind::kLanguageModel;
    if (had_score && !has_score)
      throw_error<UsageError>("--adapter {}: expected the adapter of a language model, got one that trained a score",
                              options.adapter);
    start.continued.emplace(options.adapter, config);
    check_continues(*start.continued, base, base_directory);
    start.config = start.continued->config();
    start.config.base_model = base_directory;
    if (has_score && !had_score) {
      start.config.modules_to_save.push_back("score");
      start.config.task_type = "SEQ_CLS";
    }
  }
  start.base = adapted_model(start.config, base);
  start.adapter =
      start.continued ? resolve_finished(start.config, start.base) : resolve_options(start.config, start.base);
  return start;
}

std::unique_ptr<AdaptedModel> load_adapted_model(const Communicator& comm, const ModelConfig& config,
                                                 const HfModel& base, const AdapterStart& start,
                                                 const EngineOptions& options, uint64_t seed) {
  return load(comm, config, base, start, options, seed);
}

std::unique_ptr<AdaptedModel> load_frozen_model(const Communicator& comm, const ModelConfig& config,
                                                const HfModel& base, const std::string& adapter_directory,
                                                at::ScalarType dtype) {
  AdapterStart start;
  if (!adapter_directory.empty())
    comm.run_agreed([&] {
      start.continued.emplace(adapter_directory, config);
      check_continues(*start.continued, config, base.directory());
      start.adapter = start.continued->adapter();
    });
  start.adapter.dropout = 0;
  return load(comm, config, base, start, {.dtype = dtype, .is_trained = false}, 0);
}

}  // namespace plumb
