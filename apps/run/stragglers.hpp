// Detects ranks that are slower than the others because a node throttles, is shared, or has a failing disk. It compares
// the computing time per token, without the time that a rank waits for others.
// Source: the straggler scores of NVIDIA's resiliency extension.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace plumb {

class Stragglers {
 public:
  /// Adds the times of a step, by rank; 0 means that the rank had no rows. Returns a human-readable line that names the
  /// ranks which have now been slower than 3/4 of the fastest rank's speed for 20 steps in a row; "" if there are none.
  std::string add_step(const std::vector<int64_t>& picoseconds_per_token);

 private:
  struct Streak {
    int num_steps = 0;
    double slowness = 0;  // sum over the streak: this rank's time / the fastest rank's
  };
  std::vector<Streak> streaks_;  // by rank
};

}  // namespace plumb
