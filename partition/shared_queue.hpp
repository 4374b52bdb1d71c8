// Numbers of pieces of work whose sizes nobody knows before, which ranks take as they get done.
#pragma once

#include <cstdint>
#include <optional>

#include "partition/communicator.hpp"
#include "partition/node_memory.hpp"

namespace plumb {

class SharedQueue {
 public:
  /// Collective: divides the numbers [0, count) among the nodes in proportion to their ranks. Each rank begins with an
  /// equal share of its node's, at most `at_once`, one after the other; ranks that are done take those left.
  SharedQueue(const Communicator& comm, int64_t count, int64_t at_once);

  /// Local: a number that no other rank gets; none at the end.
  std::optional<int64_t> next();

 private:
  NodeMemory memory_;
  int64_t next_, end_;             // of this rank's share
  int64_t left_begin_, left_end_;  // of the node
};

}  // namespace plumb
