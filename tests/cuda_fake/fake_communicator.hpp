// Communicators of the fake NCCL: made, polled, aborted and destroyed as NCCL's non-blocking ones.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/cuda_fake/messages.hpp"

namespace plumb::fake {

struct CommObject : std::enable_shared_from_this<CommObject> {
  Ranks ranks;
  int num_ranks = 0;
  int root_in_world = 0;
  std::vector<std::pair<int, int>> joined;  // of the root: (rank, rank in world)
  bool is_blocking = true, is_ready = false, is_aborted = false;
  ncclResult_t error = ncclSuccess;
  int64_t num_operations = 0;
  std::vector<std::pair<const void*, size_t>> windows;
  std::shared_ptr<CommObject> self;  // what the handle owns
  // The call that is in progress.
  int polls_left = 0;
  std::function<void()> pending;
  bool is_finalizing = false;

  /// Begins a call of NCCL: it takes effect at once, or after some polls.
  ncclResult_t call(const std::string& name, std::function<void()> effect);
  ncclResult_t poll();
  bool is_registered(const void* begin, size_t bytes) const;
  /// Moves the exchange of addresses between ranks; true when all have joined.
  bool join();
  bool hears_of_abort() const;
  void tell_of_abort() const;
};

CommObject& comm_object(ncclComm_t comm);

/// to = the sum of `size` parts of `count` elements each, added in the order of a ring that begins at part `first`, and
/// rounded after each addition, as NCCL may.
void add_in_ring(const std::byte* parts, void* to, size_t count, bool is_bfloat16, int first, int size);

}  // namespace plumb::fake
