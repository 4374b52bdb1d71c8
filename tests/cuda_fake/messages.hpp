// How the operations of the fake NCCL move bytes: messages over MPI that never block. Each carries the number and the
// name of its operation, so that operations that do not match are an error by name.
#pragma once

#include <mpi.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <vector>

namespace plumb::fake {

/// The ranks of a communicator, by their place in MPI_COMM_WORLD, and the tag that its messages have.
struct Ranks {
  int mine = 0;
  std::vector<int> in_world;
  int tag = 0;
  int size() const { return static_cast<int>(in_world.size()); }
};

struct Part {
  int peer;
  std::byte* data;
  size_t bytes;
};

/// All messages of one operation on one rank.
class Messages {
 public:
  Messages(const Ranks& ranks, std::string operation, int64_t number, std::vector<Part> sends,
           std::vector<Part> receives);
  ~Messages();
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;

  /// Moves what can be moved now; true when all messages have been sent and received.
  bool advance();

 private:
  struct Header {
    int64_t number;
    int64_t bytes;
    std::array<char, 48> operation;
  };
  struct Sent {
    std::vector<std::byte> message;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  struct Expected {
    Part part;
    std::vector<std::byte> message;
    MPI_Request request = MPI_REQUEST_NULL;
    bool is_done = false;
  };
  void start();
  void copy_to_myself();
  bool receive(Expected& expected);
  void unpack(const Expected& expected);
  std::vector<std::byte> pack(const Part& part) const;

  const Ranks& ranks_;
  std::string operation_;
  int64_t number_;
  std::vector<Part> sends_;
  std::list<Expected> expected_;
  std::list<Sent> sent_;
  bool is_started_ = false;
};

/// Communicators of their own for the messages of operations, and for those by which communicators are made.
MPI_Comm operations_mpi();
MPI_Comm bootstrap_mpi();

}  // namespace plumb::fake
