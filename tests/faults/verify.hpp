// Verifies committed checkpoints with the code of the program itself, in child processes, because it needs MPI.
#pragma once

#include <string>
#include <vector>

namespace plumb::test {

/// Errors in the committed checkpoints of both stages; empty if all verify.
std::vector<std::string> damaged_checkpoints(const std::string& run);

struct FlipCount {
  std::string file_class;  // rank file, manifest.json or COMMIT
  int num_flipped = 0, num_found = 0;
};
/// Flips one bit in each of num_places random places of each class of file of a checkpoint, one at a time, and counts
/// how many flips are detected.
std::vector<FlipCount> flip_bytes(const std::string& checkpoint, int num_places);

}  // namespace plumb::test
