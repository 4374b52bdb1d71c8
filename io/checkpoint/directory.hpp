// The names in output_dir/checkpoints: step-000120 once it is complete, step-000120.tmp-* while it is written or
// removed. All functions here are for rank 0 only.
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

/// Every directory with such a name, newest first, whether or not it is intact; none where there is no directory.
/// Throws InputOutputError.
std::vector<CheckpointPlace> list_checkpoints(const std::string& directory);

/// Throws InputOutputError where the disk of `directory` has fewer bytes left.
void check_free_space(const std::string& directory, int64_t num_bytes);

/// Removes all but those of `kept_steps` and the newest `limit` of those up to `step`. Later ones stay: a run that
/// could not use them writes them again. Each disappears completely or not at all.
void prune_checkpoints(const std::string& directory, int64_t step, int64_t limit,
                       const std::vector<int64_t>& kept_steps = {});

/// Removes every directory that list_checkpoints() lists.
void remove_all_checkpoints(const std::string& directory);

/// Removes the temporary directories of killed processes. Only where no other process writes there.
void remove_unfinished_checkpoints(const std::string& directory);

}  // namespace plumb
