#include "apps/pipeline_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>

#include "apps/output_directory.hpp"
#include "io/file.hpp"
#include "io/file_hash.hpp"
#include "io/json_tolerant.hpp"
#include "io/report.hpp"
#include "io/sha256.hpp"
#include "io/tokenizer_files.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxStateBytes = 16 << 20;
constexpr std::string_view kContents = "contents of ";
constexpr const char* kAccumulation = "gradient_accumulation_steps";
constexpr const char* kMicroBatches = "micro_batches_per_step";

/// They change neither the model nor what is measured of it, but for rounding by the number of threads; of files and
/// directories the contents count.
constexpr std::array kImmaterial = {"output_dir",
                                    "overwrite_output_dir",
                                    "logging_steps",
                                    "eval_steps",
                                    "startup_checks",
                                    "watchdog_seconds",
                                    "max_time",
                                    "threads",
                                    "per_device_eval_batch_size",
                                    "gradient_checkpointing",
                                    "model",
                                    "data",
                                    "eval_data",
                                    "ref_model",
                                    "reward_model",
                                    "tokenizer"};

bool is_immaterial(const std::string& name) {
  return std::find(kImmaterial.begin(), kImmaterial.end(), name) != kImmaterial.end();
}

std::optional<std::string> find(const Inputs& inputs, const std::string& name) {
  for (const auto& [input, value] : inputs)
    if (input == name) return value;
  return std::nullopt;
}

std::string text_or_none(const std::optional<std::string>& value) { return value && !value->empty() ? *value : "none"; }

/// Collective.
std::string tokenizer_hash(const Communicator& comm, const std::string& model_directory) {
  std::string text;
  comm.run_on_rank0([&] {
    for (const std::string& path : tokenizer_files(model_directory))
      text += path.substr(path.find_last_of('/')) + sha256_of_file(path);
    text = hash_of_text(text);
  });
  comm.broadcast(text);
  return text;
}

}  // namespace

Inputs describe_inputs(const Communicator& comm, const TrainOptions& o) {
  Inputs inputs = o.texts;
  const auto add_contents = [&](const char* name, const std::string& hash) {
    inputs.emplace_back(std::string(kContents) + name, hash);
  };
  inputs.emplace_back(kMicroBatches, std::to_string(comm.size() * o.gradient_accumulation_steps));
  add_contents("model", model_hash(comm, o.model.model));
  if (!o.lora.adapter.empty()) add_contents("adapter", adapter_hash(comm, o.lora.adapter));
  add_contents("tokenizer", tokenizer_hash(comm, o.model.model));
  add_contents("data", hash_of_files(comm, o.data.data));
  if (!o.eval_data.empty()) add_contents("eval_data", hash_of_files(comm, o.eval_data));
  if (!o.dpo.ref_model.empty()) add_contents("ref_model", model_hash(comm, o.dpo.ref_model));
  if (!o.dpo.reward_model.empty()) add_contents("reward_model", model_hash(comm, o.dpo.reward_model));
  return inputs;
}

std::string describe_changes(const Inputs& before, const Inputs& now) {
  std::vector<std::string> names;
  for (const Inputs* inputs : {&now, &before})
    for (const auto& [name, value] : *inputs)
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  const auto is_same = [&](const std::string& name) { return find(before, name) == find(now, name); };
  // on other ranks the rows of a step are kept by this option, or left to change by leaving it alone
  const bool has_same_batch = is_same(kAccumulation) || is_same(kMicroBatches);
  std::string text;
  for (const std::string& name : names) {
    if (is_same(name) || is_immaterial(name) || name == kMicroBatches) continue;
    if (name == kAccumulation && has_same_batch) continue;
    std::string shown = name;
    if (name.starts_with(kContents)) {
      const std::string option = name.substr(kContents.size());
      if (!is_same(option)) shown = option;
    }
    text += fmt::format(
        "{}{}", text.empty() ? "" : ", ",
        shown.starts_with(kContents)
            ? shown + " changed"
            : fmt::format("{}: {}, now {}", shown, text_or_none(find(before, shown)), text_or_none(find(now, shown))));
  }
  return text;
}

PipelineState::PipelineState(const std::string& directory, const std::vector<PlannedStage>& stages)
    : directory_(directory), stages_(ordered_json::array()) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) throw_error<InputOutputError>("output_dir {}: cannot be created: {}", directory, error.message());
  remove_temporary_files(directory, {"pipeline.json", "pipeline.ini", "report.html"});
  const std::string path = join_path(directory, "pipeline.json");
  ordered_json old;
  if (std::filesystem::exists(path)) {
    old = ordered_json::parse(read_text_file(path, kMaxStateBytes), nullptr, /*allow_exceptions=*/false);
    if (!old.is_object() || !old.contains("stages") || !old["stages"].is_array())
      throw_error<DataError>(
          "{}: expected the state of a pipeline, got something else; remove it to run all stages anew", path);
  }
  for (const PlannedStage& stage : stages) {
    const std::string name(name_of(stage.options.stage));
    ordered_json entry = {{"name", name}, {"directory", name}, {"status", "pending"}};
    if (old.is_object())
      for (const ordered_json& candidate : old["stages"])
        if (candidate.is_object() && get_text(candidate, "name") == name) {
          entry["status"] = get_text(candidate, "status");
          for (const char* key : {"seconds", "inputs"})
            if (candidate.contains(key)) entry[key] = candidate[key];
        }
    if (entry["status"] == "running") entry["status"] = "unfinished";  // its job is gone
    stages_.push_back(entry);
  }
}

std::string PipelineState::reason_to_run(size_t stage, const Inputs& inputs) const {
  const ordered_json& entry = stages_[stage];
  const auto status = entry["status"].get<std::string>();
  const auto model = fmt::format("{}/{}/model", directory_, entry["directory"].get<std::string>());
  if (status == "pending") return "it has not run yet";
  if (status != "done" || !entry.contains("inputs") || !entry["inputs"].is_object())
    return status == "failed" ? "it failed last time" : "it was begun and not finished";
  if (!is_regular_file(join_path(model, "config.json"))) return fmt::format("{} is gone", model);
  Inputs before;
  for (const auto& [name, value] : entry["inputs"].items())
    if (value.is_string()) before.emplace_back(name, value.get<std::string>());
  return describe_changes(before, inputs);
}

void PipelineState::set(size_t stage, const std::string& status, double seconds, const Inputs& inputs) {
  ordered_json& entry = stages_[stage];
  entry["status"] = status;
  entry["seconds"] = seconds;
  entry["inputs"] = ordered_json::object();
  for (const auto& [name, value] : inputs) entry["inputs"][name] = value;
  write();
}

void PipelineState::write() const {
  const ordered_json state = {{"stages", stages_}};
  write_file_atomically(join_path(directory_, "pipeline.json"),
                        state.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n");
  write_report(directory_);
}

}  // namespace plumb
