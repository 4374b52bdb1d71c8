#include "apps/output_directory.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "io/file.hpp"
#include "lib/base/check.hpp"
#include "lib/kernels/kernels.hpp"

namespace plumb {

namespace fs = std::filesystem;

void claim_output_directory(const std::string& directory, bool overwrites) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) throw_error<InputOutputError>("--output_dir {}: cannot be created: {}", directory, error.message());
  remove_temporary_files(directory, {"model", "adapter", "run.json", "checks.json", "notes.json", "report.html"});
  if (fs::exists(directory + "/run.json")) {
    if (!overwrites)
      throw_error<UsageError>(
          "--output_dir {}: holds a run already (run.json); choose another directory, or "
          "--overwrite_output_dir true",
          directory);
    // TensorBoard would draw both runs as one
    std::vector<fs::path> events;
    for (const fs::directory_entry& entry : fs::directory_iterator(directory, error))
      if (entry.path().filename().string().starts_with("events.out.tfevents.")) events.push_back(entry.path());
    for (const fs::path& path : events) fs::remove(path, error);
    // The model stays until a new one replaces it: it may be the one that is trained on. run.json goes last, so that
    // whoever is killed here leaves a run that is taken up again.
    for (const char* name : {"metrics.jsonl", "checks.json", "notes.json", "report.html", "run.json"})
      fs::remove(fs::path(directory) / name, error);
  }
  const std::string probe = directory + "/.writable";
  fs::remove(probe, error);
  write_new_file(probe, "");
  fs::remove(probe, error);
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

void write_run_json(const TrainOptions& options, const Communicator& comm, int64_t num_steps, int threads,
                    const MemoryPlan& plan) {
  nlohmann::ordered_json run = {
      {"plumb", "0.1.0"},          {"command", name_of(options.stage)}, {"ranks", comm.size()},
      {"nodes", comm.num_nodes()}, {"threads_per_rank", threads},       {"instruction_set", kernel_instruction_set()},
      {"num_steps", num_steps}};
  for (const auto& [name, value] : options.texts) run["options"][name] = value;
  run["plan"] = {{"num_parameters", plan.num_parameters},
                 {"num_trained_parameters", plan.num_trained_parameters},
                 {"program_bytes", plan.program_bytes},
                 {"parameter_bytes", plan.parameter_bytes},
                 {"moment_bytes", plan.moment_bytes},
                 {"gradient_bytes", plan.gradient_bytes},
                 {"gradient_buffer_bytes", plan.gradient_buffer_bytes},
                 {"activation_bytes", plan.activation_bytes},
                 {"head_bytes", plan.head_bytes},
                 {"slot_bytes_per_node", plan.slot_bytes},
                 {"base_bytes_per_node", plan.base_bytes},
                 {"base_shard_bytes", plan.base_shard_bytes},
                 {"scratch_bytes", plan.scratch_bytes},
                 {"rank_bytes", plan.rank_bytes()},
                 {"total_bytes", plan.total_bytes(comm.size(), comm.node_size(0))}};
  write_file_atomically(options.output_dir + "/run.json", run.dump(2) + "\n");
}

void check_fits(const PlanInput& input, const MemoryPlan& plan, int64_t available_bytes) {
  const int64_t node_bytes = input.ranks_per_node * (plan.rank_bytes() - plan.program_bytes) +
                             plan.node_bytes();  // the program is there already
  if (available_bytes > 0 && node_bytes > available_bytes)
    throw_error<UsageError>(
        "the plan needs {} more on this node, which has {} left; use more nodes, "
        "--gradient_checkpointing true, --dtype bfloat16, a smaller --max_length or "
        "--per_device_train_batch_size",
        render_bytes(node_bytes), render_bytes(available_bytes));
}

Reduction parse_reduction(const std::string& name) { return name == "fast" ? Reduction::kFast : Reduction::kCanonical; }

}  // namespace plumb
