// The ranks of a run, the nodes they are on, and the small collectives: barrier, sums of integers, values from rank 0
// or from all ranks, agreement on errors. The collectives on units are in exchange.hpp. With a single rank every
// collective is a copy, so that one process needs no code of its own. Ranks are renumbered so that those of one node
// are contiguous.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/base/exact_sum.hpp"
#include "partition/packed_values.hpp"

namespace plumb {

/// Owns MPI_Init and MPI_Finalize. One per process, created before any Communicator.
class MpiRuntime {
 public:
  MpiRuntime();
  ~MpiRuntime();
  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;

  /// Local: ends every rank of the job with this exit code immediately.
  [[noreturn]] static void abort(int exit_code);
};

/// An error that all ranks have thrown together, so each may exit normally and one log message is enough.
class AgreedError : public Error {
 public:
  using Error::Error;
};

/// Upper limit for one MPI message in bytes, because MPI counts are int.
inline constexpr int64_t kMaxMessageBytes = int64_t{1} << 30;

class Communicator {
 public:
  /// Collective: over all ranks of `parent`. ranks_per_node > 0 splits each node into groups of that many ranks, which
  /// exchange over MPI as separate nodes would; 0 uses the real nodes. Messages longer than max_message_bytes are
  /// split. Throws CommError if MPI fails, as all collectives do.
  explicit Communicator(int ranks_per_node = 0, MPI_Comm parent = MPI_COMM_WORLD,
                        int64_t max_message_bytes = kMaxMessageBytes);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  int node() const { return node_of_[rank_]; }
  int num_nodes() const { return static_cast<int>(node_begin_.size()) - 1; }
  int node_of(int rank) const { return node_of_[rank]; }
  /// The ranks of a node are [node_begin(node), node_begin(node + 1)).
  int node_begin(int node) const { return node_begin_[node]; }
  int node_size(int node) const { return node_begin(node + 1) - node_begin(node); }
  int local_index(int rank) const { return rank - node_begin(node_of(rank)); }

  MPI_Comm mpi() const { return world_; }
  MPI_Comm node_mpi() const { return node_comm_; }

  /// Collective: returns once all ranks have called it.
  void barrier() const;
  /// Collective: elementwise over all ranks, in place.
  void sum(std::span<int64_t> values) const;
  void max(std::span<int64_t> values) const;
  void max(std::span<double> values) const;
  /// Collective: exact, hence independent of the number of ranks.
  void sum(ExactSum& value) const;
  /// Collective: true if `mine` is true on any rank.
  bool any(bool mine) const;
  /// Collective: replaces `bytes` by those of rank 0.
  void broadcast(std::string& bytes) const;
  /// Collective: the value of every rank, indexed by rank.
  template <PlainValue T>
  std::vector<T> all_gather(const T& value) const {
    return unpack<std::vector<T>>(all_gather_bytes(pack(value), std::vector<int64_t>(size_, sizeof(T))));
  }
  /// Collective: the values of every rank, indexed by rank. Ranks may have different numbers of values.
  template <PlainValue T>
  std::vector<std::vector<T>> all_gather(std::span<const T> values) const {
    return split<std::vector<T>>({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  }
  template <PlainValue T>
  std::vector<std::vector<T>> all_gather(const std::vector<T>& values) const {
    return all_gather(std::span<const T>(values));
  }
  std::vector<std::string> all_gather(const std::string& bytes) const { return split<std::string>(bytes); }
  /// Collective: as all_gather(), but only rank 0 receives; the other ranks get an empty result.
  std::vector<std::string> gather_on_rank0(const std::string& bytes) const;
  template <PlainValue T>
  std::vector<std::vector<T>> gather_on_rank0(std::span<const T> values) const {
    std::vector<std::vector<T>> by_rank;
    for (const std::string& bytes :
         gather_on_rank0(std::string(reinterpret_cast<const char*>(values.data()), values.size_bytes())))
      by_rank.push_back(unpack<std::vector<T>>(bytes));
    return by_rank;
  }
  /// Collective: runs body on every rank. If it throws on any rank, all ranks throw AgreedError with the message and
  /// exit code of the first rank that failed, so that no rank waits for one that has left.
  void run_agreed(const std::function<void()>& body) const;
  /// Collective: body runs on rank 0 only; an error there is thrown on all ranks.
  void run_on_rank0(const std::function<void()>& body) const;
  /// Collective: compute() runs on rank 0 only, and all ranks return its result; an error there is thrown on all ranks.
  /// The result is a plain value, a string, or a vector of these.
  template <class Compute>
  std::invoke_result_t<const Compute&> from_rank0(const Compute& compute) const {
    std::string bytes;
    run_on_rank0([&] { bytes = pack(compute()); });
    broadcast(bytes);
    return unpack<std::invoke_result_t<const Compute&>>(bytes);
  }

 private:
  void broadcast_from(int root, std::span<char> bytes) const;
  std::string all_gather_bytes(std::string_view mine, const std::vector<int64_t>& num_bytes) const;
  /// Collective: the bytes of every rank, unpacked, indexed by rank.
  template <class Part>
  std::vector<Part> split(std::string_view mine) const {
    const std::vector<int64_t> num_bytes = all_gather(std::ssize(mine));
    const std::string all = all_gather_bytes(mine, num_bytes);
    std::vector<Part> parts;
    std::string_view rest = all;
    for (const int64_t size : num_bytes) {
      parts.push_back(unpack<Part>(rest.substr(0, size)));
      rest.remove_prefix(size);
    }
    return parts;
  }

  MPI_Comm world_ = MPI_COMM_NULL;
  MPI_Comm node_comm_ = MPI_COMM_NULL;
  int64_t max_message_bytes_;
  int rank_ = 0;
  int size_ = 1;
  std::vector<int> node_of_;
  std::vector<int> node_begin_;
};

/// Non-blocking messages of any length; wait() completes all of them.
class MessageBatch {
 public:
  explicit MessageBatch(MPI_Comm comm, int64_t max_message_bytes = kMaxMessageBytes)
      : comm_(comm), max_message_bytes_(max_message_bytes) {}
  void send(std::span<const std::byte> bytes, int to, int tag);
  void receive(std::span<std::byte> bytes, int from, int tag);
  void wait();

 private:
  MPI_Comm comm_;
  int64_t max_message_bytes_;
  std::vector<MPI_Request> requests_;
};

}  // namespace plumb
