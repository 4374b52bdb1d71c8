#include "partition/communicator.hpp"

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/base/process_state.hpp"
#include "partition/deadline.hpp"
#include "partition/shared_memory.hpp"

namespace plumb {

namespace {

void check_mpi(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw_error<CommError>("{}: {}", what, std::string_view(text, length));
}

/// A library that calls exit() would end only this rank, and the other ranks would wait for it forever.
void end_unfinished_job() {
  int is_over = 0;
  MPI_Finalized(&is_over);
  if (is_over != 0 || process_state().is_job_aborting) return;
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  fmt::print(stderr, "plumb: [rank {}] error: the process exits in the middle of its job\n", rank);
  MpiRuntime::abort(kExitInternal);
}

}  // namespace

MpiRuntime::MpiRuntime() {
  place_memory_of_mpi();
  const Deadline deadline("MPI to start");
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  std::atexit(end_unfinished_job);
}

MpiRuntime::~MpiRuntime() {
  // during an exception the peers may be in a collective: abort() ends the job instead
  if (std::uncaught_exceptions() > 0) return;
  const Deadline deadline("MPI to end");
  MPI_Finalize();
}

void MpiRuntime::abort(int exit_code) {
  process_state().is_job_aborting = true;
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

Communicator::Communicator(int ranks_per_node, MPI_Comm parent, int64_t max_message_bytes)
    : max_message_bytes_(max_message_bytes) {
  int world_rank = 0;
  MPI_Comm_rank(parent, &world_rank);
  MPI_Comm shared = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(parent, MPI_COMM_TYPE_SHARED, world_rank, MPI_INFO_NULL, &shared), "nodes");
  int shared_rank = 0;
  MPI_Comm_rank(shared, &shared_rank);
  MPI_Comm_split(shared, ranks_per_node > 0 ? shared_rank / ranks_per_node : 0, shared_rank, &node_comm_);
  MPI_Comm_free(&shared);

  // A node is identified by the world rank of its first member; ordering by (node, rank) makes its ranks contiguous.
  int leader = world_rank, node_rank = 0;
  MPI_Comm_rank(node_comm_, &node_rank);
  MPI_Bcast(&leader, 1, MPI_INT, 0, node_comm_);
  int world_size = 1;
  MPI_Comm_size(parent, &world_size);
  std::vector<int> leaders(world_size);
  MPI_Allgather(&leader, 1, MPI_INT, leaders.data(), 1, MPI_INT, parent);
  const auto before_me = [&](int other) { return std::pair(leaders[other], other) < std::pair(leader, world_rank); };
  int position = 0;
  for (int other = 0; other < world_size; ++other) position += before_me(other) ? 1 : 0;
  check_mpi(MPI_Comm_split(parent, 0, position, &world_), "MPI_Comm_split");
  MPI_Comm_set_errhandler(world_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(world_, &rank_);
  MPI_Comm_size(world_, &size_);
  std::sort(leaders.begin(), leaders.end());
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == 0 || leaders[rank] != leaders[rank - 1]) node_begin_.push_back(rank);
    node_of_.push_back(static_cast<int>(node_begin_.size()) - 1);
  }
  node_begin_.push_back(size_);
}

Communicator::~Communicator() {
  if (std::uncaught_exceptions() > 0) return;
  MPI_Comm_free(&world_);
  MPI_Comm_free(&node_comm_);
}

void Communicator::barrier() const {
  const WatchedOperation wait("barrier");
  check_mpi(MPI_Barrier(world_), "barrier");
}

void Communicator::sum(std::span<int64_t> values) const {
  const WatchedOperation wait("sum of numbers", OperationKind::kCollective, -1, std::ssize(values) * 8);
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_INT64_T, MPI_SUM, world_),
            "sum of integers");
}

void Communicator::max(std::span<int64_t> values) const {
  const WatchedOperation wait("maximum of numbers", OperationKind::kCollective, -1, std::ssize(values) * 8);
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_INT64_T, MPI_MAX, world_),
            "maximum of integers");
}

void Communicator::max(std::span<double> values) const {
  const WatchedOperation wait("maximum of numbers", OperationKind::kCollective, -1, std::ssize(values) * 8);
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_DOUBLE, MPI_MAX, world_),
            "maximum of numbers");
}

void Communicator::sum(ExactSum& value) const {
  value.carry();
  sum(value.bins());
}

bool Communicator::any(bool mine) const {
  int64_t is_true = mine ? 1 : 0;
  max(std::span(&is_true, 1));
  return is_true == 1;
}

void Communicator::broadcast(std::string& bytes) const {
  auto size = std::ssize(bytes);
  const WatchedOperation wait("broadcast");
  check_mpi(MPI_Bcast(&size, 1, MPI_INT64_T, 0, world_), "broadcast of a size");
  bytes.resize(size);
  broadcast_from(0, bytes);
}

void Communicator::broadcast_from(int root, std::span<char> bytes) const {
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(max_message_bytes_, std::ssize(bytes)));
    check_mpi(MPI_Bcast(part.data(), static_cast<int>(part.size()), MPI_BYTE, root, world_), "broadcast");
    bytes = bytes.subspan(part.size());
  }
}

std::string Communicator::all_gather_bytes(std::string_view mine, const std::vector<int64_t>& num_bytes) const {
  std::vector<int64_t> begins = {0};
  for (const int64_t size : num_bytes) begins.push_back(begins.back() + size);
  std::string all(begins.back(), '\0');
  const WatchedOperation wait("all-gather", OperationKind::kCollective, -1, begins.back());
  if (begins.back() <= max_message_bytes_) {
    const std::vector<int> counts(num_bytes.begin(), num_bytes.end()), offsets(begins.begin(), begins.end() - 1);
    check_mpi(MPI_Allgatherv(mine.data(), static_cast<int>(mine.size()), MPI_BYTE, all.data(), counts.data(),
                             offsets.data(), MPI_BYTE, world_),
              "all-gather");
    return all;
  }
  std::copy(mine.begin(), mine.end(), all.begin() + begins[rank_]);
  for (int root = 0; root < size_; ++root) broadcast_from(root, std::span(all).subspan(begins[root], num_bytes[root]));
  return all;
}

std::vector<std::string> Communicator::gather_on_rank0(const std::string& bytes) const {
  constexpr int kTag = 0;
  const std::vector<int64_t> num_bytes = all_gather(std::ssize(bytes));
  std::vector<std::string> by_rank;
  MessageBatch messages(world_, max_message_bytes_);
  if (rank_ == 0) {
    by_rank.push_back(bytes);
    for (int rank = 1; rank < size_; ++rank) by_rank.emplace_back(num_bytes[rank], '\0');
    for (int rank = 1; rank < size_; ++rank)
      messages.receive(std::as_writable_bytes(std::span(by_rank[rank])), rank, kTag);
  } else {
    messages.send(std::as_bytes(std::span(bytes)), 0, kTag);
  }
  messages.wait();
  return by_rank;
}

void Communicator::run_agreed(const std::function<void()>& body) const {
  int code = 0;
  std::string message;
  try {
    body();
  } catch (const AgreedError&) {
    throw;  // from a collective within body, on all ranks
  } catch (const std::exception& error) {
    code = exit_code(error);
    message = error.what();
  }
  int first = code == 0 ? size_ : rank_;
  const WatchedOperation wait("agreement");
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, world_), "agreement");
  if (first == size_) return;
  const std::string own_message = message;
  auto size = static_cast<int>(message.size());
  MPI_Bcast(&code, 1, MPI_INT, first, world_);
  MPI_Bcast(&size, 1, MPI_INT, first, world_);
  message.resize(size);
  MPI_Bcast(message.data(), size, MPI_CHAR, first, world_);
  if (!own_message.empty() && own_message != message) log_error("{}", own_message);  // else logged once, by rank 0
  throw AgreedError(message, code);
}

void Communicator::run_on_rank0(const std::function<void()>& body) const {
  run_agreed([&] {
    if (rank_ == 0) body();
  });
}

void MessageBatch::send(std::span<const std::byte> bytes, int to, int tag) {
  for (int64_t begin = 0; begin < std::ssize(bytes); begin += max_message_bytes_) {
    const int64_t length = std::min(max_message_bytes_, std::ssize(bytes) - begin);
    requests_.emplace_back();
    check_mpi(MPI_Isend(bytes.data() + begin, static_cast<int>(length), MPI_BYTE, to, tag, comm_, &requests_.back()),
              "send");
  }
}

void MessageBatch::receive(std::span<std::byte> bytes, int from, int tag) {
  for (int64_t begin = 0; begin < std::ssize(bytes); begin += max_message_bytes_) {
    const int64_t length = std::min(max_message_bytes_, std::ssize(bytes) - begin);
    requests_.emplace_back();
    check_mpi(MPI_Irecv(bytes.data() + begin, static_cast<int>(length), MPI_BYTE, from, tag, comm_, &requests_.back()),
              "receive");
  }
}

void MessageBatch::wait() {
  const WatchedOperation wait("messages between nodes");
  check_mpi(MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE), "messages");
  requests_.clear();
}

}  // namespace plumb
