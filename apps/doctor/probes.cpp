#include "apps/doctor/probes.hpp"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>

#include "apps/doctor/checks.hpp"
#include "apps/doctor/directory_probe.hpp"
#include "apps/models/threads.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/exact_sum.hpp"
#include "partition/shared_memory.hpp"

namespace plumb {

namespace {

constexpr int64_t kNumTerms = 4096;

/// A term of the known-answer sum: all magnitudes and both signs, so that the order of a plain sum would show.
double term(int64_t i) {
  const auto mantissa = static_cast<double>((i * 2654435761) % (int64_t{1} << 40) + 1);
  return std::ldexp(i % 2 == 0 ? mantissa : -mantissa, static_cast<int>(i * 37 % 400) - 200);
}

std::string bits_of(ExactSum sum) { return fmt::format("{:016x}", std::bit_cast<uint64_t>(sum.value())); }

ExactSum sum_of_terms(int64_t begin, int64_t stride) {
  ExactSum sum;
  for (int64_t i = begin; i < kNumTerms; i += stride) sum.add(term(i));
  return sum;
}

/// Large messages arrive as they were sent.
bool are_messages_whole(const Communicator& comm) {
  const auto text_of = [&](int rank) {
    std::string text(std::max<int64_t>(4096, (int64_t{16} << 20) / comm.size()), '\0');
    for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>((i * 131 + i / 251 + rank * 17) & 255);
    return text;
  };
  const std::vector<std::string> all = comm.all_gather(text_of(comm.rank()));
  for (int rank = 0; rank < comm.size(); ++rank)
    if (all[rank] != text_of(rank)) return false;
  return true;
}

/// This host's clock minus that of rank 0, of the exchange that took the least time.
double clock_offset(const Communicator& comm) {
  constexpr int kTag = 11, kRounds = 5;
  double offset = 0, shortest = std::numeric_limits<double>::infinity();
  for (int node = 1; node < comm.num_nodes(); ++node) {
    const int leader = comm.node_begin(node);
    for (int round = 0; round < kRounds; ++round) {
      double theirs = 0, mine = wall_seconds();
      const auto bytes = [](double& value) { return std::as_writable_bytes(std::span(&value, 1)); };
      const auto message = [&](double& value, int peer, bool sends) {
        MessageBatch batch(comm.mpi());
        if (sends) batch.send(bytes(value), peer, kTag);
        if (!sends) batch.receive(bytes(value), peer, kTag);
        batch.wait();
      };
      if (comm.rank() == 0) {
        message(mine, leader, true);
        message(theirs, leader, false);
      } else if (comm.rank() == leader) {
        const double before = wall_seconds();
        message(theirs, 0, false);
        const double now = wall_seconds();
        message(mine, 0, true);
        if (now - before < shortest) {
          shortest = now - before;
          offset = now - theirs;
        }
      }
    }
  }
  return offset;
}

/// Reads a word of the next rank of this host, as Open MPI's transport does for large messages. Returns the error.
std::string read_neighbor(const Communicator& comm) {
  struct Place {
    int64_t process, address;
  };
  static int64_t word = 0;
  word = 1000 + comm.rank();
  ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
  const std::vector<Place> places = comm.all_gather(Place{::getpid(), reinterpret_cast<int64_t>(&word)});
  const int begin = comm.node_begin(comm.node()), size = comm.node_size(comm.node());
  const Place& neighbor = places[begin + (comm.local_index(comm.rank()) + 1) % size];
  int64_t read = 0;
  const iovec to = {&read, sizeof read};
  const iovec from = {reinterpret_cast<void*>(neighbor.address), sizeof read};
  const bool is_read = ::process_vm_readv(static_cast<pid_t>(neighbor.process), &to, 1, &from, 1, 0) == sizeof read;
  const std::string error = is_read ? "" : std::strerror(errno);
  comm.barrier();
  const char* const mechanism = std::getenv("OMPI_MCA_btl_vader_single_copy_mechanism");
  std::string scope;
  std::getline(std::ifstream("/proc/sys/kernel/yama/ptrace_scope"), scope);
  const bool is_tried =
      (mechanism == nullptr || std::string_view(mechanism) == "cma") && (scope.empty() || scope == "0");
  return size > 1 && is_tried ? error : "";
}

/// Claims what the smallest run shares.
std::string claim_shared_memory(const Communicator& comm) {
  try {
    const SharedMemory memory(comm, comm.node_size(comm.node()) * (int64_t{4} << 20));
    comm.barrier();
    return "";
  } catch (const AgreedError& error) {
    return error.what();
  }
}

}  // namespace

std::string known_answer() { return bits_of(sum_of_terms(0, 1)); }

Facts probe_job(const Communicator& comm, RankFacts mine, const std::string& output_dir) {
  mine.rank = comm.rank();
  mine.num_ranks = comm.size();
  ExactSum sum = sum_of_terms(comm.rank(), comm.size());
  comm.sum(sum);
  mine.exact_sum = bits_of(sum);
  mine.are_messages_whole = are_messages_whole(comm);
  mine.clock_offset_seconds = clock_offset(comm);
  mine.threads = choose_threads(comm, 0);
  mine.single_copy_error = read_neighbor(comm);
  // all ranks get the error of the one that has no room: the others need not repeat it
  const bool any_error = comm.any(!mine.shared_error.empty());
  const std::string error = any_error ? "" : claim_shared_memory(comm);
  if (mine.shared_error.empty() && comm.rank() == 0) mine.shared_error = error;
  if (!output_dir.empty()) mine.output = probe_directory(comm, output_dir);
  Facts facts;
  for (const std::string& text :
       comm.all_gather(nlohmann::json(mine).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)))
    facts.push_back(nlohmann::json::parse(text).get<RankFacts>());
  return facts;
}

}  // namespace plumb
