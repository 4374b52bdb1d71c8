#include "apps/run/output_directory.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "io/checkpoint/directory.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/file/json_tolerant.hpp"
#include "io/run/metrics_log.hpp"
#include "io/run/process_identity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/version.hpp"
#include "lib/kernels/kernels.hpp"

namespace plumb {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kMaxRunJsonBytes = 16 << 20;

std::string run_json(const std::string& directory) { return directory + "/run.json"; }

nlohmann::ordered_json read_run_json(const std::string& directory) {
  return nlohmann::ordered_json::parse(read_text_file(run_json(directory), kMaxRunJsonBytes), nullptr,
                                       /*allow_exceptions=*/false);
}

nlohmann::ordered_json plan_to_json(const Communicator& comm, const MemoryPlan& plan) {
  return {{"num_parameters", plan.num_parameters},
          {"num_trained_parameters", plan.num_trained_parameters},
          {"program_bytes", plan.program_bytes},
          {"parameter_bytes", plan.parameter_bytes},
          {"moment_bytes", plan.moment_bytes},
          {"gradient_bytes", plan.gradient_bytes},
          {"gradient_buffer_bytes", plan.gradient_buffer_bytes},
          {"activation_bytes", plan.activation_bytes},
          {"head_bytes", plan.head_bytes},
          {"slot_bytes_per_node", plan.gather_buffer_bytes},
          {"base_bytes_per_node", plan.base_bytes},
          {"base_shard_bytes", plan.base_shard_bytes},
          {"scratch_bytes", plan.scratch_bytes},
          {"rank_bytes", plan.rank_bytes()},
          {"total_bytes", plan.total_bytes(comm.size(), comm.node_size(0))}};
}

}  // namespace

void open_output_directory(const std::string& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) throw_error<InputOutputError>("--output_dir {}: cannot be created: {}", directory, error.message());
  remove_temporary_files(directory, {"model", "adapter", "run.json", "checks.json", "notes.json", "report.html",
                                     "status.json", "metrics.jsonl"});
  remove_unfinished_checkpoints(checkpoint_directory(directory));
  const std::string probe = directory + "/.writable";
  fs::remove(probe, error);
  write_new_file(probe, "");
  fs::remove(probe, error);
}

std::string checkpoint_directory(const std::string& output_directory) { return output_directory + "/checkpoints"; }

std::optional<RunRecord> read_run_record(const std::string& directory) {
  if (!fs::exists(run_json(directory))) return std::nullopt;
  RunRecord record;
  const nlohmann::ordered_json run = read_run_json(directory);
  if (!run.is_object()) return record;
  record.has_ended = run.value("has_ended", nlohmann::ordered_json()) == true;
  record.inputs = inputs_from_json(get_or_null(run, "inputs"));
  record.job = get_text(run, "job");
  return record;
}

void discard_run(const std::string& directory) {
  if (!fs::exists(run_json(directory))) return;
  remove_event_files(directory);
  remove_all_checkpoints(checkpoint_directory(directory));
  // The model stays until a new one replaces it: it may be the one that training starts from. run.json goes last, so
  // that a process that is killed here leaves a run that the next start discards.
  std::error_code error;
  for (const char* name : {"rollouts", "reference"}) fs::remove_all(fs::path(directory) / name, error);
  for (const char* name : {"metrics.jsonl", "checks.json", "notes.json", "report.html", "run.json"})
    fs::remove(fs::path(directory) / name, error);
}

void remove_temporary_files(const std::string& directory, const std::vector<std::string>& names) {
  std::vector<fs::path> left;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const auto is_of = [&](const std::string& whole) { return name.starts_with(whole + ".tmp-"); };
    if (std::any_of(names.begin(), names.end(), is_of)) left.push_back(entry->path());
  }
  for (const fs::path& path : left) fs::remove_all(path, error);
}

void write_run_json(const Communicator& comm, const std::string& directory, const RunDescription& run) {
  nlohmann::ordered_json json = {{"plumb", version()},
                                 {"command", run.command},
                                 {"ranks", comm.size()},
                                 {"nodes", comm.num_nodes()},
                                 {"threads_per_rank", run.threads_per_rank},
                                 {"instruction_set", kernel_instruction_set()},
                                 {"num_steps", run.num_steps}};
  if (const std::string job = this_process().job; !job.empty()) json["job"] = job;
  if (run.num_steps_done > 0) json["resumed_after_step"] = run.num_steps_done;
  for (const auto& [name, value] : run.options) json["options"][name] = value;
  json["inputs"] = inputs_to_json(run.inputs);
  json["plan"] = plan_to_json(comm, run.plan);
  write_file_atomically(run_json(directory), json.dump(2) + "\n");
}

void record_end_of_run(const std::string& directory) {
  nlohmann::ordered_json run = read_run_json(directory);
  run["has_ended"] = true;
  write_file_atomically(run_json(directory), run.dump(2) + "\n");
}

}  // namespace plumb
