#include "apps/pipeline/pipeline_state.hpp"

#include <fmt/format.h>

#include <filesystem>

#include "apps/run/output_directory.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/file/json_tolerant.hpp"
#include "io/report/report.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxStateBytes = 16 << 20;

}  // namespace

PipelineState::PipelineState(const std::string& directory, std::vector<PlannedStage>& stages, int num_ranks)
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
          "{}: expected the state of a pipeline, got something else; remove it to run all stages again", path);
  }
  for (PlannedStage& stage : stages) {
    const std::string name(name_of(stage.options.stage));
    ordered_json entry = {{"name", name}, {"directory", name}, {"status", "pending"}};
    if (old.is_object())
      for (const ordered_json& candidate : old["stages"])
        if (candidate.is_object() && get_text(candidate, "name") == name) {
          entry["status"] = get_text(candidate, "status");
          for (const char* key : {"seconds", "inputs"})
            if (candidate.contains(key)) entry[key] = candidate[key];
          const Inputs first_start = inputs_from_json(get_or_null(candidate, "first_start"));
          if (entry["status"] != "done") check_ranks_share_steps(first_start, stage.options, num_ranks);
          stage.options.gradient_accumulation_steps = accumulation_for_resume(first_start, stage.options, num_ranks);
        }
    entry["first_start"] = inputs_to_json(describe_step(stage.options, num_ranks));
    if (entry["status"] == "running") entry["status"] = "unfinished";  // the job that ran it has ended
    stages_.push_back(entry);
  }
}

std::string PipelineState::reason_to_run(size_t stage, const Inputs& inputs) const {
  const ordered_json& entry = stages_[stage];
  const auto status = entry["status"].get<std::string>();
  const auto model = fmt::format("{}/{}/model", directory_, entry["directory"].get<std::string>());
  if (status == "pending") return "it has not run yet";
  if (status != "done" || !entry.contains("inputs") || !entry["inputs"].is_object())
    return status == "failed" ? "it failed last time" : "it was started and not finished";
  if (!is_regular_file(join_path(model, "config.json"))) return fmt::format("{} is gone", model);
  const Inputs before = inputs_from_json(entry["inputs"]);
  const std::string changes = describe_changes(before, inputs);
  if (!changes.empty() || compare_length(before, inputs) != LengthChange::kLonger) return changes;
  return "it is to be longer: " + describe_allowed_changes(before, inputs);
}

void PipelineState::set(size_t stage, const std::string& status, double seconds, const Inputs& inputs) {
  ordered_json& entry = stages_[stage];
  entry["status"] = status;
  entry["seconds"] = seconds;
  entry["inputs"] = inputs_to_json(inputs);
  write();
}

void PipelineState::write() const {
  const ordered_json state = {{"stages", stages_}};
  write_file_atomically(join_path(directory_, "pipeline.json"),
                        state.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n");
  write_report(directory_);
}

}  // namespace plumb
