#include "apps/run/inputs.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "apps/models/stage_model.hpp"
#include "io/dataset/content_hash.hpp"
#include "io/dataset/prepare_key.hpp"
#include "io/file/sha256.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr std::string_view kContents = "contents of ";
constexpr const char* kAccumulation = "gradient_accumulation_steps";
constexpr const char* kStepsPerGeneration = "steps_per_generation";
constexpr const char* kMicroBatches = "micro_batches_per_step";
constexpr const char* kRowVersion = "version of prepared rows";
constexpr const char* kTokenizerIds = "ids of the tokenizer";
constexpr const char* kNumSteps = "num_steps";

/// Whether a change of this input is no change of the run. Of files and directories the contents count.
bool may_change(const std::string& name) {
  if (name == kNumSteps) return true;    // follows from the others
  if (name == kRowVersion) return true;  // a run that an earlier version began can be completed; the change is logged
  const OnResume rule = on_resume(name);
  return rule == OnResume::kMayChange || rule == OnResume::kNotCompared;
}

std::optional<std::string> find(const Inputs& inputs, const std::string& name) {
  for (const auto& [input, value] : inputs)
    if (input == name) return value;
  return std::nullopt;
}

bool is_default(const std::string& name, const std::string& value) {
  return std::any_of(std::begin(kStages), std::end(kStages), [&](Stage stage) {
    const Option* const option = find_option(training_options(stage), name);
    return option != nullptr && option->default_text == value;
  });
}

std::string text_or_none(const std::optional<std::string>& value) { return value && !value->empty() ? *value : "none"; }

/// Collective: a hash of the names and contents of the tokenizer's files. config.json, which decides how they are read,
/// is hashed with the model.
std::string tokenizer_hash(const Communicator& comm, const TokenizerSource& source) {
  return comm.from_rank0([&] {
    std::string text;
    for (const std::string& path : tokenizer_files(source))
      text += path.substr(path.find_last_of('/')) + sha256_of_file(path);
    return hash_of_text(text);
  });
}

/// Whether a round has as many steps, where both count its micro-batches per rank.
bool has_same_rounds(const Inputs& before, const Inputs& now) {
  const auto number = [](const Inputs& inputs, const char* name) {
    return std::atoll(find(inputs, name).value_or("0").c_str());
  };
  return number(before, kStepsPerGeneration) * number(now, kAccumulation) ==
         number(now, kStepsPerGeneration) * number(before, kAccumulation);
}

std::string describe_change(const std::string& name, const Inputs& before, const Inputs& now) {
  return fmt::format("{}: {}, now {}", name, text_or_none(find(before, name)), text_or_none(find(now, name)));
}

}  // namespace

Inputs describe_inputs(const Communicator& comm, const TrainOptions& o) {
  Inputs inputs = o.texts;
  const auto add_contents = [&](const char* name, const std::string& hash) {
    inputs.emplace_back(std::string(kContents) + name, hash);
  };
  inputs.push_back(describe_step(o, comm.size()).back());
  add_contents("model", model_hash(comm, o.model.model));
  if (!o.lora.adapter.empty()) add_contents("adapter", adapter_hash(comm, o.lora.adapter));
  add_contents("tokenizer", tokenizer_hash(comm, model_at_start(o).tokenizer()));
  // without this in run.json they are those of transformers 4, as in versions that knew no others
  if (o.data.tokenizer_behavior == TokenizerBehavior::kTransformers5)
    inputs.emplace_back(kTokenizerIds, "as transformers 5");
  // the order of rows depends on which files share a weight
  const std::string groups =
      o.data_weights.empty() ? "" : fmt::format(" in groups of {}", fmt::join(o.data.files_per_item, ", "));
  if (!o.data.data.empty()) add_contents("data", hash_of_files(comm, o.data.data) + groups);
  inputs.emplace_back(kRowVersion, std::to_string(kPrepareVersion));
  if (!o.eval_data.empty()) add_contents("eval_data", hash_of_files(comm, o.eval_data));
  if (!o.dpo.ref_model.empty()) add_contents("ref_model", model_hash(comm, o.dpo.ref_model));
  if (!o.dpo.reward_model.empty()) add_contents("reward_model", model_hash(comm, o.dpo.reward_model));
  if (!o.rl.rollouts.empty()) add_contents("rollouts", hash_of_files(comm, o.rl.rollouts));
  std::vector<std::string> reward_models;
  for (const std::string& directory : o.rl.reward_model) reward_models.push_back(model_hash(comm, directory));
  if (!reward_models.empty()) add_contents("reward_model", fmt::format("{}", fmt::join(reward_models, " ")));
  return inputs;
}

Inputs describe_step(const TrainOptions& o, int num_ranks) {
  return {{kAccumulation, find(o.texts, kAccumulation).value_or("")},
          {kMicroBatches, std::to_string(num_ranks * o.gradient_accumulation_steps)}};
}

int64_t micro_batches_per_step(const Inputs& inputs) {
  return std::max<int64_t>(0, std::atoll(find(inputs, kMicroBatches).value_or("0").c_str()));
}

namespace {

/// 0: the number of micro-batches may change.
int64_t micro_batches_to_keep(const Inputs& before, const TrainOptions& o) {
  return find(before, kAccumulation) == find(o.texts, kAccumulation) ? micro_batches_per_step(before) : 0;
}

}  // namespace

int64_t accumulation_for_resume(const Inputs& before, const TrainOptions& o, int num_ranks) {
  const int64_t micro_batches = micro_batches_to_keep(before, o);
  return micro_batches > 0 && micro_batches % num_ranks == 0 ? micro_batches / num_ranks
                                                             : o.gradient_accumulation_steps;
}

void check_ranks_share_steps(const Inputs& before, const TrainOptions& o, int num_ranks) {
  const int64_t micro_batches = micro_batches_to_keep(before, o);
  if (micro_batches % num_ranks == 0) return;
  std::string possible;
  for (int64_t ranks = 1; ranks <= micro_batches; ++ranks)
    if (micro_batches % ranks == 0) possible += (possible.empty() ? "" : ", ") + std::to_string(ranks);
  throw_error<UsageError>(
      "--output_dir {}: holds a run already (run.json), whose steps have {} micro-batches, which {} ranks cannot share "
      "evenly; start it on one of these numbers of ranks: {}; or choose another directory, or --overwrite_output_dir "
      "true",
      o.output_dir, micro_batches, num_ranks, possible);
}

void add_num_steps(Inputs& inputs, int64_t num_steps) {
  std::erase_if(inputs, [](const auto& input) { return input.first == kNumSteps; });
  inputs.emplace_back(kNumSteps, std::to_string(num_steps));
}

int64_t num_steps_of(const Inputs& inputs) { return std::atoll(find(inputs, kNumSteps).value_or("0").c_str()); }

LengthChange compare_length(const Inputs& before, const Inputs& now) {
  const auto number = [](const Inputs& inputs, const char* name) {
    return std::atof(find(inputs, name).value_or("0").c_str());
  };
  const auto compare = [](double then, double value) {
    if (value == then) return LengthChange::kNone;
    return value > then && then > 0 ? LengthChange::kLonger : LengthChange::kOther;
  };
  const double steps_before = number(before, "max_steps"), steps_now = number(now, "max_steps");
  if (steps_now > 0)
    return compare(steps_before > 0 ? steps_before : static_cast<double>(num_steps_of(before)), steps_now);
  if (steps_before > 0) return LengthChange::kOther;
  return compare(number(before, "num_train_epochs"), number(now, "num_train_epochs"));
}

std::string describe_changes(const Inputs& before, const Inputs& now) {
  std::vector<std::string> names;
  for (const Inputs* inputs : {&now, &before})
    for (const auto& [name, value] : *inputs)
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  const auto is_same = [&](const std::string& name) {
    const std::optional<std::string> then = find(before, name), value = find(now, name);
    if (then.has_value() == value.has_value()) return then == value;
    return is_default(name, then ? *then : *value);  // another version of plumb lacks the option
  };
  // on another number of ranks this option changes so that a step keeps its rows
  const bool has_same_batch = is_same(kMicroBatches);
  const bool has_other_length = compare_length(before, now) == LengthChange::kOther;
  std::string text;
  for (const std::string& name : names) {
    if (is_same(name) || may_change(name) || name == kMicroBatches) continue;
    if (on_resume(name) == OnResume::kMayGrow && !has_other_length) continue;
    if (name == kAccumulation && has_same_batch) continue;
    if (name == kStepsPerGeneration && has_same_batch && has_same_rounds(before, now)) continue;
    std::string shown = name;
    if (name.starts_with(kContents)) {
      const std::string option = name.substr(kContents.size());
      if (!is_same(option)) shown = option;
    }
    text += fmt::format("{}{}", text.empty() ? "" : ", ",
                        shown.starts_with(kContents) ? shown + " changed" : describe_change(shown, before, now));
  }
  return text;
}

std::string describe_allowed_changes(const Inputs& before, const Inputs& now) {
  std::string text;
  for (const auto& [name, value] : now) {
    const OnResume rule = on_resume(name);
    const bool may_differ = rule == OnResume::kMayChange || rule == OnResume::kMayGrow ||
                            rule == OnResume::kSameBatch || name == kRowVersion;
    if (!may_differ) continue;
    if (find(before, name) != value) text += (text.empty() ? "" : ", ") + describe_change(name, before, now);
  }
  return text;
}

nlohmann::ordered_json inputs_to_json(const Inputs& inputs) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [name, value] : inputs) json[name] = value;
  return json;
}

Inputs inputs_from_json(const nlohmann::ordered_json& json) {
  Inputs inputs;
  if (!json.is_object()) return inputs;
  for (const auto& [name, value] : json.items())
    if (value.is_string()) inputs.emplace_back(name, value.get<std::string>());
  return inputs;
}

}  // namespace plumb
