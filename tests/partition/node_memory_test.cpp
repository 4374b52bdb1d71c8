// The shared window of a node: one page-aligned memory for all its ranks, counters that order their accesses, and
// numbers that they share out.
#include "partition/node_memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/shared_memory_directory.hpp"
#include "partition/communicator.hpp"
#include "partition/shared_queue.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

TEST(NodeMemory, IsOneMemoryPerNode) {
  for (const int ranks_per_node : {0, 1, 2}) {
    const Communicator comm(ranks_per_node);
    const int node_size = comm.node_size(comm.node()), me = comm.local_index(comm.rank());
    NodeMemory memory(comm, node_size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.data()) % 64, 0u);
    memory.data()[me] = static_cast<std::byte>(comm.rank() + 1);
    memory.mine().gathers_posted.fetch_add(1, std::memory_order_release);
    memory.wait_for_all(&RankProgress::gathers_posted, 1);
    for (int local = 0; local < node_size; ++local)
      EXPECT_EQ(static_cast<int>(memory.data()[local]), comm.node_begin(comm.node()) + local + 1)
          << ranks_per_node << " ranks per node";
    comm.barrier();
  }
}

TEST(NodeMemory, WithoutRoomIsRefusedOnAllRanksTogether) {
  const Communicator comm;
  const std::string message = message_of<AgreedError>([&] { NodeMemory(comm, int64_t{1} << 50); });
  if (comm.size() > 1)
    expect_contains(message, {shared_memory_directory(), "expected room for ", "--shm-size", "fewer ranks per node",
                              "PLUMB_SHM_DIR"});
  ::setenv("PLUMB_SHM_DIR", "/no/such/directory", 1);
  const std::string path = refusal_of<AgreedError>([&] { NodeMemory(comm, 8); });
  ::unsetenv("PLUMB_SHM_DIR");
  if (comm.size() > 1) expect_contains(path, {"/no/such/directory/plumb-", "cannot be created", "PLUMB_SHM_DIR"});
  NodeMemory memory(comm, 8);  // nothing of the failures is left
  EXPECT_EQ(memory.data()[0], std::byte{0});
}

TEST(SharedQueue, HandsOutEveryNumberOnce) {
  for (const int ranks_per_node : {0, 1, 2})
    for (const int64_t count : {0, 1, 7, 100}) {
      const Communicator comm(ranks_per_node);
      constexpr int64_t kAtOnce = 4;
      SharedQueue queue(comm, count, kAtOnce);
      std::vector<int64_t> mine;
      for (std::optional<int64_t> number = queue.next(); number; number = queue.next()) mine.push_back(*number);
      EXPECT_EQ(queue.next(), std::nullopt);
      for (int64_t i = 1; i < std::min<int64_t>(kAtOnce, std::ssize(mine)); ++i) EXPECT_EQ(mine[i], mine[0] + i);
      std::vector<int64_t> all;
      for (const std::vector<int64_t>& of_rank : comm.all_gather(mine))
        all.insert(all.end(), of_rank.begin(), of_rank.end());
      std::sort(all.begin(), all.end());
      ASSERT_EQ(std::ssize(all), count);
      for (int64_t i = 0; i < count; ++i) EXPECT_EQ(all[i], i);
    }
}

TEST(NodeMemory, WaitsForTheSlowestRank) {
  const Communicator comm;
  NodeMemory memory(comm, 8);
  auto* const turns = reinterpret_cast<int64_t*>(memory.data());
  if (comm.rank() == 0) *turns = 0;
  comm.barrier();
  // every rank takes its turn after the one before it: lost or early waits would leave another number
  for (int rank = 0; rank < comm.size(); ++rank) {
    if (rank == comm.rank()) *turns = 2 * *turns + 1;
    memory.mine().reduces_posted.fetch_add(1, std::memory_order_release);
    memory.wait_for_all(&RankProgress::reduces_posted, static_cast<uint64_t>(rank) + 1);
  }
  EXPECT_EQ(*turns, (int64_t{1} << comm.size()) - 1);
}

}  // namespace
}  // namespace plumb
