#include "partition/communicator.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <optional>

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

constexpr int64_t kTestMessageBytes = 1000;  // a small limit in place of the 2^31 of MPI's counts

Communicator communicator_of_short_messages(int64_t max_message_bytes = kTestMessageBytes) {
  return Communicator(0, MPI_COMM_WORLD, max_message_bytes);
}

std::string made_bytes(int64_t num_bytes, int seed) {
  std::string bytes;
  for (int64_t i = 0; i < num_bytes; ++i) bytes += static_cast<char>((i + 7 * seed) % 251);
  return bytes;
}

TEST(Communicator, BroadcastsMessagesLongerThanTheLimit) {
  const Communicator comm = communicator_of_short_messages();
  for (const int64_t num_bytes : {0, 1, 999, 1000, 1001, 12345}) {
    const std::string expected = made_bytes(num_bytes, 3);
    std::string bytes = comm.rank() == 0 ? expected : made_bytes(50, comm.rank());
    comm.broadcast(bytes);
    EXPECT_EQ(bytes, expected);
  }
}

struct Pair {
  int32_t key;
  double value;
  bool operator==(const Pair&) const = default;
};

TEST(Communicator, EveryRankGetsWhatRank0Computes) {
  for (const int64_t max_message_bytes : {int64_t{7}, kMaxMessageBytes}) {
    const Communicator comm = communicator_of_short_messages(max_message_bytes);
    int num_calls = 0;
    const auto from_rank0 = [&](const auto& value) {
      return comm.from_rank0([&] {
        ++num_calls;
        return value;
      });
    };
    EXPECT_EQ(from_rank0(int64_t{1} << 40), int64_t{1} << 40);
    EXPECT_TRUE(from_rank0(true));
    EXPECT_EQ(from_rank0(Pair{-3, 0.1}), (Pair{-3, 0.1}));
    EXPECT_EQ(from_rank0(std::optional<int>()), std::nullopt);
    EXPECT_EQ(from_rank0(std::string()), "");
    const std::string text("a\nb\0c", 5);
    EXPECT_EQ(from_rank0(text), text);
    EXPECT_EQ(from_rank0(std::vector<double>{0.5, -1e300}), (std::vector<double>{0.5, -1e300}));
    EXPECT_EQ(from_rank0(std::vector<Pair>()), std::vector<Pair>());
    const std::vector<std::string> names = {"", "one", made_bytes(100, 1), text};
    EXPECT_EQ(from_rank0(names), names);
    const std::vector<std::vector<int64_t>> table = {{1, 2}, {}, {3}};
    EXPECT_EQ(from_rank0(table), table);
    EXPECT_EQ(num_calls, comm.rank() == 0 ? 10 : 0);
  }
}

TEST(Communicator, AnErrorOfRank0IsThrownByAllInsteadOfAValue) {
  const Communicator comm;
  try {
    comm.from_rank0([]() -> int { throw UsageError("--option: bad"); });
    ADD_FAILURE() << "expected an error";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), kExitUsage);
    EXPECT_STREQ(error.what(), "--option: bad");
  }
}

TEST(Communicator, AnyIsTrueWhereOneRankIs) {
  const Communicator comm;
  EXPECT_FALSE(comm.any(false));
  EXPECT_TRUE(comm.any(true));
  for (int rank = 0; rank < comm.size(); ++rank) EXPECT_TRUE(comm.any(rank == comm.rank()));
}

TEST(Communicator, GathersTheValuesOfAllRanksInTheirOrder) {
  for (const int64_t max_message_bytes : {int64_t{7}, kMaxMessageBytes}) {
    const Communicator comm = communicator_of_short_messages(max_message_bytes);
    const auto bytes_of = [](int rank) { return made_bytes(10 * rank, rank); };
    const auto pair_of = [](int rank) { return Pair{rank, 0.5 * rank}; };
    const auto pairs_of = [&](int rank) { return std::vector<Pair>(rank % 3, pair_of(rank)); };
    const std::vector<std::string> bytes = comm.all_gather(bytes_of(comm.rank()));
    const std::vector<Pair> pairs = comm.all_gather(pair_of(comm.rank()));
    const std::vector<std::vector<Pair>> lists = comm.all_gather(pairs_of(comm.rank()));
    const std::vector<std::string> on_rank0 = comm.gather_on_rank0(bytes_of(comm.rank()));
    const std::vector<Pair> mine = pairs_of(comm.rank());
    const std::vector<std::vector<Pair>> lists_on_rank0 = comm.gather_on_rank0(std::span<const Pair>(mine));
    std::vector<std::string> expected_bytes;
    std::vector<Pair> expected_pairs;
    std::vector<std::vector<Pair>> expected_lists;
    for (int rank = 0; rank < comm.size(); ++rank) {
      expected_bytes.push_back(bytes_of(rank));
      expected_pairs.push_back(pair_of(rank));
      expected_lists.push_back(pairs_of(rank));
    }
    EXPECT_EQ(bytes, expected_bytes);
    EXPECT_EQ(pairs, expected_pairs);
    EXPECT_EQ(lists, expected_lists);
    EXPECT_EQ(on_rank0, comm.rank() == 0 ? expected_bytes : std::vector<std::string>());
    EXPECT_EQ(lists_on_rank0, comm.rank() == 0 ? expected_lists : std::vector<std::vector<Pair>>());
  }
}

TEST(MessageBatch, CutsLongMessagesAndKeepsTheirOrder) {
  const Communicator comm;
  const auto numbers_of = [](int rank) {
    std::vector<int> numbers(1000);
    std::iota(numbers.begin(), numbers.end(), 10000 * rank);
    return numbers;
  };
  const int before = (comm.rank() + comm.size() - 1) % comm.size(), after = (comm.rank() + 1) % comm.size();
  const std::vector<int> out = numbers_of(comm.rank());
  std::vector<int> in(1000, -1);
  MessageBatch messages(comm.mpi(), 64);
  messages.receive(std::as_writable_bytes(std::span(in)), before, 5);
  messages.send(std::as_bytes(std::span(out)), after, 5);
  messages.wait();
  EXPECT_EQ(in, numbers_of(before));
}

}  // namespace
}  // namespace plumb
