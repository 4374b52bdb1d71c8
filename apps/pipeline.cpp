// plumb pipeline: sft, reward and dpo in one job, restarted at the unfinished stage.
#include "apps/pipeline.hpp"

#include <fmt/format.h>
#include <malloc.h>
#include <xxhash.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/commands.hpp"
#include "apps/train_stage.hpp"
#include "io/file.hpp"
#include "io/file_hash.hpp"
#include "io/report.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxStateBytes = 16 << 20;

/// What a stage's result depends on: its options, and the contents of the files that they name.
using Inputs = OptionTexts;

/// Options that change no bit of the result.
bool is_immaterial(const std::string& option) {
  for (const char* name : {"output_dir", "overwrite_output_dir", "logging_steps", "startup_checks"})
    if (option == name) return true;
  return false;
}

/// Collective.
Inputs describe_inputs(const Communicator& comm, const TrainOptions& o) {
  Inputs inputs;
  for (const auto& [name, value] : o.texts)
    if (!is_immaterial(name)) inputs.emplace_back(name, value);
  inputs.emplace_back("contents of model", model_hash(comm, o.model.model));
  std::vector<std::string> files = o.data.data;
  files.insert(files.end(), o.eval_data.begin(), o.eval_data.end());
  inputs.emplace_back("contents of the data", hash_of_files(comm, files));
  for (const std::string& model : {o.dpo.ref_model, o.dpo.reward_model})
    if (!model.empty()) inputs.emplace_back("contents of " + model, model_hash(comm, model));
  return inputs;
}

/// "learning_rate: 1e-06, now 5e-07"
std::string describe_changes(const Inputs& before, const Inputs& now) {
  std::string text;
  for (const auto& [name, value] : now) {
    const auto old = std::find_if(before.begin(), before.end(), [&](const auto& entry) { return entry.first == name; });
    if (old != before.end() && old->second == value) continue;
    const bool is_hash = name.starts_with("contents of");
    text +=
        fmt::format("{}{}{}", text.empty() ? "" : ", ", name,
                    is_hash ? " changed" : fmt::format(": {}, now {}", old == before.end() ? "" : old->second, value));
  }
  return text.empty() ? "an input is gone" : text;
}

/// pipeline.json: where every stage stands. Rank 0 only.
class PipelineState {
 public:
  PipelineState(const std::string& directory, const std::vector<PlannedStage>& stages)
      : directory_(directory), path_(join_path(directory, "pipeline.json")) {
    std::error_code error;
    std::filesystem::create_directories(directory, error);
    if (error) throw_error<InputOutputError>("output_dir {}: cannot be created: {}", directory, error.message());
    ordered_json old;
    if (std::filesystem::exists(path_)) {
      old = ordered_json::parse(read_text_file(path_, kMaxStateBytes), nullptr, /*allow_exceptions=*/false);
      if (!old.is_object() || !old.contains("stages") || !old["stages"].is_array())
        throw_error<DataError>("{}: expected the state of a pipeline, got something else; choose another output_dir",
                               path_);
    }
    for (const PlannedStage& stage : stages) {
      const std::string name(name_of(stage.options.stage));
      ordered_json entry = {{"name", name}, {"directory", name}, {"status", "pending"}};
      if (old.contains("stages"))
        for (const ordered_json& candidate : old["stages"])
          if (candidate.is_object() && candidate.value("name", "") == name) entry = candidate;
      state_["stages"].push_back(entry);
    }
  }

  /// The inputs that the finished stage was made from; nothing if it is not finished.
  std::optional<Inputs> finished_from(size_t stage) const {
    const ordered_json& entry = state_["stages"][stage];
    const std::string config = fmt::format("{}/{}/model/config.json", directory_, entry.value("directory", ""));
    if (entry.value("status", "") != "done" || !entry.contains("inputs") || !std::filesystem::exists(config))
      return std::nullopt;
    Inputs inputs;
    for (const auto& [name, value] : entry["inputs"].items())
      if (value.is_string()) inputs.emplace_back(name, value.get<std::string>());
    return inputs;
  }

  void set(size_t stage, const char* status, double seconds, const Inputs& inputs) {
    ordered_json& entry = state_["stages"][stage];
    entry["status"] = status;
    entry["seconds"] = seconds;
    entry["inputs"] = ordered_json::object();
    for (const auto& [name, value] : inputs) entry["inputs"][name] = value;
    write_file_atomically(path_, state_.dump(2) + "\n");
    write_report(directory_);
  }

 private:
  std::string directory_;
  std::string path_;
  ordered_json state_;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void run_stages(const Communicator& comm, const PipelineFile& file) {
  const std::string directory = pipeline_directory(file);
  std::vector<PlannedStage> stages = plan_pipeline(file);
  std::optional<PipelineState> state;
  comm.run_on_rank0([&] { state.emplace(directory, stages); });
  for (size_t i = 0; i < stages.size(); ++i) {
    TrainOptions& o = stages[i].options;
    const std::string name(name_of(o.stage));
    const Inputs inputs = describe_inputs(comm, o);
    int64_t is_done = 0;
    comm.run_on_rank0([&] {
      const std::optional<Inputs> before = state->finished_from(i);
      is_done = before && *before == inputs ? 1 : 0;
      if (is_done) log_info("pipeline: {} is done: {}/model", name, o.output_dir);
      if (before && !is_done) log_info("pipeline: {} runs again: {}", name, describe_changes(*before, inputs));
    });
    comm.max(std::span(&is_done, 1));
    if (is_done) continue;
    const auto start = std::chrono::steady_clock::now();
    comm.run_on_rank0([&] {
      log_info("pipeline: stage {} of {}: {}", i + 1, stages.size(), name);
      state->set(i, "running", 0, inputs);
    });
    o.overwrite_output_dir = true;  // what is there is an unfinished try, or was made from something else
    try {
      train_stage(comm, o);
    } catch (const std::exception&) {
      if (comm.rank() == 0) state->set(i, "failed", seconds_since(start), inputs);
      throw;
    }
    malloc_trim(0);  // the next stage plans with the memory that is left
    comm.run_on_rank0([&] { state->set(i, "done", seconds_since(start), inputs); });
  }
  if (comm.rank() == 0) log_info("pipeline: done; the report is {}/report.html", directory);
}

int run_pipeline(const std::vector<std::string>& arguments) {
  if (arguments.size() != 1 || arguments[0] == "--help") {
    fmt::print(
        "usage: plumb pipeline FILE.ini\n\n"
        "FILE.ini holds options that all stages share (model and output_dir among them), then a section for each\n"
        "stage to run, [sft], [reward] and [dpo], with its data and what it has of its own; plumb sft --help,\n"
        "plumb reward --help and plumb dpo --help list the options. Stages run in this order, each starts from\n"
        "what those before it made, and one that is done is not run again.\n");
    if (arguments.size() == 1) return kExitDone;
    throw_error<UsageError>("plumb pipeline: expected one file, got {} arguments", arguments.size());
  }
  const PipelineFile file = read_pipeline_file(arguments[0]);
  plan_pipeline(file);  // says what is wrong before MPI starts
  return run_on_ranks([&](const Communicator& comm) {
    run_stages(comm, file);
    return static_cast<int>(kExitDone);
  });
}

}  // namespace plumb
