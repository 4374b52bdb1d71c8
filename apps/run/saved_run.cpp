#include "apps/run/saved_run.hpp"

#include "apps/run/output_directory.hpp"
#include "io/checkpoint/directory.hpp"
#include "io/file/json_tolerant.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

SavedRun::SavedRun(const Checkpoint& checkpoint) {
  const nlohmann::ordered_json& run = checkpoint.manifest.run;
  inputs = inputs_from_json(get_or_null(run, "inputs"));
  threads_per_rank = static_cast<int>(get_count(run, "threads_per_rank"));
  state = run_state_from_json(get_or_null(run, "state"), checkpoint.manifest.step);
  log = get_or_null(run, "log");
  if (inputs.empty() || !get_or_null(log, "sums").is_object())
    throw_error<DataError>("{}: expected a checkpoint of a stage of training, got something else", checkpoint.path);
}

void require_same_run(const Communicator& comm, const Checkpoint& checkpoint, const Inputs& inputs) {
  comm.run_on_rank0([&] {
    const std::string changes = describe_changes(SavedRun(checkpoint).inputs, inputs);
    if (!changes.empty())
      throw_error<UsageError>("{}: expected a checkpoint of a run with the same options and data, got one with {}",
                              checkpoint.path, changes);
  });
}

std::optional<Checkpoint> open_newest_checkpoint(const Communicator& comm, const std::string& output_dir,
                                                 const Inputs& inputs, int64_t last_step) {
  const std::vector<std::string> paths = comm.from_rank0([&] {
    std::vector<std::string> newest_first;
    for (const CheckpointPlace& place : list_checkpoints(checkpoint_directory(output_dir)))
      if (place.step <= last_step) newest_first.push_back(place.path);
    return newest_first;
  });
  for (const std::string& path : paths) {
    try {
      Checkpoint checkpoint = open_checkpoint(comm, path);
      require_same_run(comm, checkpoint, inputs);
      return checkpoint;
    } catch (const AgreedError& error) {
      if (comm.rank() == 0) log_warning("skipping checkpoint {}: {}", path, error.what());
    }
  }
  return std::nullopt;
}

void restore_model(const Communicator& comm, const Checkpoint& checkpoint, TrainableModel& model) {
  restore_checkpoint(comm, checkpoint, model.trained_shards());
  model.on_parameters_changed(checkpoint.manifest.step);
}

}  // namespace plumb
