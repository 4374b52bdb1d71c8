#include "partition/communicator.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "lib/base/check.hpp"
#include "lib/base/random.hpp"

namespace plumb {
namespace {

TEST(Communicator, RanksOfANodeAreContiguousAndAllAreCounted) {
  for (int ranks_per_node : {0, 1, 2, 3}) {
    const Communicator comm(ranks_per_node);
    int counted = 0;
    for (int node = 0; node < comm.num_nodes(); ++node) {
      EXPECT_EQ(comm.node_begin(node), counted);
      counted += comm.node_size(node);
      for (int rank = comm.node_begin(node); rank < comm.node_begin(node + 1); ++rank)
        EXPECT_EQ(comm.node_of(rank), node);
    }
    EXPECT_EQ(counted, comm.size());
    if (ranks_per_node > 0) {
      EXPECT_EQ(comm.num_nodes(), (comm.size() + ranks_per_node - 1) / ranks_per_node);
    }
  }
}

TEST(Communicator, AFailureOfOneRankIsThrownByAll) {
  const Communicator comm;
  const int failing = comm.size() - 1;
  int code = 0;
  std::string message;
  try {
    comm.run_agreed([&] {
      if (comm.rank() == failing) throw DataError("file: row 7: bad");
    });
  } catch (const AgreedError& error) {
    code = error.code();
    message = error.what();
  }
  EXPECT_EQ(code, kExitData);
  EXPECT_EQ(message, "file: row 7: bad");
  EXPECT_NO_THROW(comm.run_agreed([] {}));
}

TEST(Communicator, ExactSumsDoNotDependOnWhoAddsWhat) {
  const Communicator comm;
  ExactSum all, mine;
  for (uint64_t i = 0; i < 1000; ++i) {
    const double value = random_normal(3, 0, i) * std::pow(10.0, static_cast<double>(i % 30) - 15);
    all.add(value);
    if (static_cast<int>(i) % comm.size() == comm.rank()) mine.add(value);
  }
  comm.sum(mine);
  EXPECT_EQ(mine.value(), all.value());
}

TEST(Communicator, BroadcastsBytesInPieces) {
  const Communicator comm;
  message_piece_bytes = 1000;
  std::string bytes;
  if (comm.rank() == 0)
    for (int i = 0; i < 12345; ++i) bytes += static_cast<char>(i % 251);
  comm.broadcast(bytes);
  message_piece_bytes = int64_t{1} << 30;
  EXPECT_EQ(bytes.size(), 12345u);
  EXPECT_EQ(bytes.back(), static_cast<char>(12344 % 251));
}

TEST(Communicator, GathersBytesOfDifferentLengthsInPieces) {
  const Communicator comm;
  message_piece_bytes = 7;
  const auto bytes_of = [](int rank) { return std::string(10 * rank, static_cast<char>(rank)); };
  const std::vector<std::string> gathered = comm.all_gather(bytes_of(comm.rank()));
  message_piece_bytes = int64_t{1} << 30;
  ASSERT_EQ(std::ssize(gathered), comm.size());
  for (int rank = 0; rank < comm.size(); ++rank) EXPECT_EQ(gathered[rank], bytes_of(rank));
}

TEST(MessageBatch, CutsLongMessagesAndKeepsTheirOrder) {
  const Communicator comm;
  message_piece_bytes = 64;  // stands for the 2^31 that MPI's counts cannot pass
  std::vector<int> out(1000, comm.rank()), in(1000, -1);
  MessageBatch messages(comm.mpi());
  messages.receive(std::as_writable_bytes(std::span(in)), (comm.rank() + comm.size() - 1) % comm.size(), 5);
  messages.send(std::as_bytes(std::span(out)), (comm.rank() + 1) % comm.size(), 5);
  messages.wait();
  message_piece_bytes = int64_t{1} << 30;
  EXPECT_EQ(in, std::vector<int>(1000, (comm.rank() + comm.size() - 1) % comm.size()));
}

}  // namespace
}  // namespace plumb
