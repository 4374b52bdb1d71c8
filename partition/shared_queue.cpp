#include "partition/shared_queue.hpp"

#include <algorithm>
#include <atomic>

namespace plumb {

namespace {

using Counter = std::atomic<int64_t>;
static_assert(Counter::is_always_lock_free);  // it works between processes

}  // namespace

SharedQueue::SharedQueue(const Communicator& comm, int64_t count, int64_t at_once) : memory_(comm, sizeof(Counter)) {
  const int64_t first_rank = comm.node_begin(comm.node()), num_ranks = comm.node_size(comm.node());
  const int64_t begin = count * first_rank / comm.size(), end = count * (first_rank + num_ranks) / comm.size();
  const int64_t index = comm.local_index(comm.rank()), num_shared_out = std::min(end - begin, at_once * num_ranks);
  next_ = begin + num_shared_out * index / num_ranks;
  end_ = begin + num_shared_out * (index + 1) / num_ranks;
  left_begin_ = begin + num_shared_out;
  left_end_ = end;
}

std::optional<int64_t> SharedQueue::next() {
  if (next_ < end_) return next_++;
  if (left_begin_ == left_end_) return {};
  // zero at first, as all bytes of the node's memory
  Counter& num_taken = *reinterpret_cast<Counter*>(memory_.data());
  const int64_t number = left_begin_ + num_taken.fetch_add(1, std::memory_order_relaxed);
  if (number < left_end_) return number;
  return {};
}

}  // namespace plumb
