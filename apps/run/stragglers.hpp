// Which ranks are slower than they should be: a node that throttles, a neighbor on it, a dying disk. What counts is
// the time that a rank computes for each of its tokens, without waiting for others.
// Source: the straggler scores of NVIDIA's resiliency extension.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace plumb {

class Stragglers {
 public:
  /// Takes the figures of a step, by rank; 0 where a rank had no rows. Returns a line for people on ranks that have
  /// been slower than 3/4 of the fastest for 20 steps on end; "" if there is nothing new.
  std::string add_step(const std::vector<int64_t>& picoseconds_per_token);

 private:
  struct Streak {
    int num_steps = 0;
    double slowness = 0;  // sum of this rank's time over the fastest one's
  };
  std::vector<Streak> streaks_;  // by rank
};

}  // namespace plumb
