// Verifies committed checkpoints by the code of the program itself, which needs MPI: in child processes.
#pragma once

#include <string>
#include <vector>

namespace plumb::test {

/// The errors of the committed checkpoints of both stages of a run's directory; none if all verify.
std::vector<std::string> damaged_checkpoints(const std::string& run);

struct FlipCount {
  std::string file_class;  // rank file, manifest.json or COMMIT
  int num_flipped = 0, num_found = 0;
};
/// One bit in each of num_places random places of each class of file of a checkpoint, one after the other.
std::vector<FlipCount> flip_bytes(const std::string& checkpoint, int num_places);

}  // namespace plumb::test
