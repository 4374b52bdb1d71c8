// The names in output_dir/checkpoints: step-000120 once it is complete, step-000120.new.tmp-XXXXXX while it is written
// or removed. Rank 0 only, as are all calls here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace plumb {

struct CheckpointPlace {
  int64_t step;
  std::string path;
};

/// "step-000120"
std::string checkpoint_name(int64_t step);

/// Every directory with such a name, newest first, whether or not it can be trusted; none where there is no directory.
/// Throws InputOutputError.
std::vector<CheckpointPlace> list_checkpoints(const std::string& directory);

/// Makes an empty directory for a checkpoint of this step, and `directory` where needed. Throws InputOutputError, also
/// where the disk has less than `num_bytes` left.
std::string begin_checkpoint(const std::string& directory, int64_t step, int64_t num_bytes);

/// Gives a temporary directory, whose contents are on the device, its name; an older one of the same step is removed.
void publish_checkpoint(const std::string& temporary, const std::string& directory, int64_t step);

/// Removes all but those of `kept_steps` and the newest `limit` of those up to `step`. Later ones stay: a run that
/// could not use them makes them again. What is being removed never has the name of a checkpoint.
void prune_checkpoints(const std::string& directory, int64_t step, int64_t limit,
                       const std::vector<int64_t>& kept_steps = {});

/// Removes every directory that list_checkpoints() lists.
void remove_all_checkpoints(const std::string& directory);

/// Removes what killed processes left. Only where no other process writes there.
void remove_unfinished_checkpoints(const std::string& directory);

}  // namespace plumb
