// The ranks of the run, the nodes they are on, and the small collectives: barrier, sums of integers, values from rank 0
// or from all, agreement on errors. The collectives on units are in exchange.hpp. On a world of one every
// collective is a copy, so a single process is an ordinary case. Ranks are renumbered so that those of one node are
// contiguous.
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

/// MPI_Init to MPI_Finalize. One per process, created before any Communicator.
class MpiRuntime {
 public:
  MpiRuntime();
  ~MpiRuntime();
  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;

  /// Ends every rank of the job with this exit code, now.
  [[noreturn]] static void abort(int exit_code);
};

/// An error that all ranks threw together: each may end in order, and one message is enough.
class AgreedError : public Error {
 public:
  using Error::Error;
};

/// The limit of one message: MPI counts are int.
inline constexpr int64_t kMaxMessageBytes = int64_t{1} << 30;

class Communicator {
 public:
  /// Collective: all ranks of `parent`, by default the whole job. ranks_per_node > 0 splits real nodes further, into
  /// groups of that many ranks that exchange over MPI as nodes do; 0 takes the nodes as they are. Longer messages than
  /// max_message_bytes are cut into pieces.
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
  /// Ranks of a node: [node_begin(node), node_begin(node + 1)).
  int node_begin(int node) const { return node_begin_[node]; }
  int node_size(int node) const { return node_begin(node + 1) - node_begin(node); }
  int local_index(int rank) const { return rank - node_begin(node_of(rank)); }

  MPI_Comm mpi() const { return world_; }
  MPI_Comm node_mpi() const { return node_comm_; }

  /// Collective.
  void barrier() const;
  /// Collective: element by element over all ranks.
  void sum(std::span<int64_t> values) const;
  void max(std::span<int64_t> values) const;
  void max(std::span<double> values) const;
  /// Collective: exact, so independent of the number of ranks.
  void sum(ExactSum& value) const;
  /// Collective: whether any rank says true.
  bool any(bool mine) const;
  /// Collective: everyone gets rank 0's bytes.
  void broadcast(std::string& bytes) const;
  /// Collective: every rank's value, by rank. It is plain, a text, or a vector of these, of which ranks may have
  /// different numbers.
  template <class T>
  std::vector<T> all_gather(const T& value) const {
    if constexpr (PlainValue<T>)
      return unpack<std::vector<T>>(all_gather_bytes(pack(value), std::vector<int64_t>(size_, sizeof(T))));
    else
      return split<T>(pack(value));
  }
  /// Collective: as all_gather(), but only rank 0 receives; the others get no values.
  std::vector<std::string> gather_on_rank0(const std::string& bytes) const;
  template <PlainValue T>
  std::vector<std::vector<T>> gather_on_rank0(std::span<const T> values) const {
    std::vector<std::vector<T>> by_rank;
    for (const std::string& bytes :
         gather_on_rank0(std::string(reinterpret_cast<const char*>(values.data()), values.size_bytes())))
      by_rank.push_back(unpack<std::vector<T>>(bytes));
    return by_rank;
  }
  /// Collective: runs body on every rank; if it throws on any, all ranks throw AgreedError with the message and exit
  /// code of the first rank that failed, so that nobody waits for a rank that is gone.
  void run_agreed(const std::function<void()>& body) const;
  /// Collective: body runs on rank 0 only; its error reaches all.
  void run_on_rank0(const std::function<void()>& body) const;
  /// Collective: compute() runs on rank 0 only and all ranks get what it returned; its error reaches all. The value is
  /// plain, a text, or a vector of these.
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
  /// Collective: every rank's part, by rank.
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

/// Non-blocking messages of any length, waited for together.
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
