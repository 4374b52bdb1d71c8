// The ranks of the run, how they lie on nodes, and the small collectives: barrier, sums of integers, agreement on
// errors. The collectives on units are in unit_exchange.hpp. On a world of one every collective is a copy, so a single
// process is an ordinary case. Ranks are renumbered so that those of one node are contiguous.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "lib/base/exact_sum.hpp"

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
class AgreedError : public std::runtime_error {
 public:
  AgreedError(const std::string& message, int code) : std::runtime_error(message), code_(code) {}
  int code() const { return code_; }

 private:
  int code_;
};

class Communicator {
 public:
  /// Collective: all ranks of `parent`, by default the whole job. ranks_per_node > 0 splits real nodes further, into
  /// groups of that many ranks that exchange over MPI as nodes do; 0 takes the nodes as they are.
  explicit Communicator(int ranks_per_node = 0, MPI_Comm parent = MPI_COMM_WORLD);
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
  /// Collective: everyone gets rank 0's bytes.
  void broadcast(std::string& bytes) const;
  /// Collective: everyone gets every rank's value, by rank.
  std::vector<int64_t> all_gather(int64_t value) const;
  /// Collective: the same for numbers of which every rank may have as many as it likes.
  std::vector<std::vector<double>> all_gather(const std::vector<double>& values) const;
  /// Collective: the same for bytes, of any length.
  std::vector<std::string> all_gather(const std::string& bytes) const;
  /// Collective: runs body on every rank; if it throws on any, all ranks throw AgreedError with the message and exit
  /// code of the first rank that failed, so that nobody waits for a rank that is gone.
  void run_agreed(const std::function<void()>& body) const;
  /// Collective: body runs on rank 0 only; its error reaches all.
  void run_on_rank0(const std::function<void()>& body) const;

 private:
  void broadcast_from(int root, std::string& bytes) const;

  MPI_Comm world_ = MPI_COMM_NULL;
  MPI_Comm node_comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  std::vector<int> node_of_;
  std::vector<int> node_begin_;
};

/// Non-blocking messages of any length (MPI counts are int), waited for together.
class MessageBatch {
 public:
  explicit MessageBatch(MPI_Comm comm) : comm_(comm) {}
  void send(std::span<const std::byte> bytes, int to, int tag);
  void receive(std::span<std::byte> bytes, int from, int tag);
  void wait();

 private:
  MPI_Comm comm_;
  std::vector<MPI_Request> requests_;
};

/// Pieces that a message is cut into; a variable so that a test can make it small.
extern int64_t message_piece_bytes;

}  // namespace plumb
