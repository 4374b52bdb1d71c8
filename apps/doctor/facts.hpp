// The measurements of plumb doctor as plain values: those of one rank, gathered from all of them. Every check is a
// function of these values (checks.hpp), so that a test can plant any problem.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace plumb {

/// The launcher that started this process, by the variables that it set before MPI started.
struct LaunchFacts {
  std::string launcher;        // "mpirun", "srun", "mpiexec"; "": none
  int64_t expected_ranks = 0;  // 0: unknown
  std::string mpi_type;        // SLURM_MPI_TYPE: srun --mpi=...
};

/// A library that this process has loaded, or the program.
struct LoadedFile {
  std::string name;      // "libmpi.so.40"
  std::string version;   // as the library reports it; may be ""
  std::string identity;  // build id, else its size
};

struct NetworkInterface {
  std::string name, address;  // IPv4, "10.0.0.1"
  int64_t prefix_bits = 0;
};

/// A limit of setrlimit(2).
struct ProcessLimit {
  std::string name;  // as `ulimit` has it: "open files"
  std::string option;
  int64_t value = -1;  // bytes, seconds or a count; -1: unlimited
};

/// A directory as this rank sees it.
struct DirectoryFacts {
  std::string path;                          // "": not asked for
  std::string error;                         // of creating, writing, fsyncing, renaming or reading a file; "": none
  std::string file_system;                   // "ext4", "nfs", "lustre", "tmpfs"; or its number
  int64_t free_bytes = -1, free_files = -1;  // -1: unknown
  bool has_room = true;                      // kDiskRoomBytes can be reserved, so that a quota shows
  std::vector<int64_t> unseen_ranks;         // whose files this rank does not see
  double seconds_until_seen = 0;             // until it sees what others have replaced
  bool has_won = false;                      // created a file that all ranks try to create
  std::string lock_error;                    // of flock(2), which HDF5 calls
  double clock_offset_seconds = 0;           // the file system's clock minus this host's
};

struct RankFacts {
  int64_t rank = 0, num_ranks = 1;
  LaunchFacts launch;
  std::string host, machine;  // its name; its boot id
  std::string working_directory;
  std::vector<LoadedFile> files;
  std::string instruction_set;
  std::vector<std::string> test_variables;  // PLUMB_FAULT and the like, which are set

  std::vector<int> cpus, cpus_of_launcher;
  double cpu_quota = 0;  // in CPUs; 0: no limit
  std::string omp_num_threads, omp_thread_limit;
  int64_t threads = 1;  // that a run would use

  int64_t available_memory_bytes = 0;
  int64_t cgroup_memory_bytes = -1, commit_memory_bytes = -1;  // that are left; -1: no limit
  std::string shared_directory, shared_error;
  int64_t shared_free_bytes = 0, shared_bytes = 0;
  std::string single_copy_error;  // of reading another rank's memory; "": none

  std::vector<ProcessLimit> limits;
  int64_t num_user_processes = 0;
  bool has_infiniband = false;
  std::vector<NetworkInterface> interfaces;  // that are up, without loopback
  std::string tcp_include, tcp_exclude;      // Open MPI's btl_tcp_if_include and btl_tcp_if_exclude
  DirectoryFacts temporary, output;

  double clock_offset_seconds = 0;  // this host's clock minus that of rank 0
  std::string exact_sum;            // the bits of the known-answer reduction, in hexadecimal
  bool are_messages_whole = true;
};

using Facts = std::vector<RankFacts>;  // by rank

/// The free disk space of output_dir that a run needs at least.
inline constexpr int64_t kDiskRoomBytes = int64_t{1} << 30;

// to_json(json&, const T&) and from_json(const json&, T&), to send facts from rank to rank
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LaunchFacts, launcher, expected_ranks, mpi_type)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LoadedFile, name, version, identity)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(NetworkInterface, name, address, prefix_bits)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ProcessLimit, name, option, value)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DirectoryFacts, path, error, file_system, free_bytes, free_files, has_room,
                                   unseen_ranks, seconds_until_seen, has_won, lock_error, clock_offset_seconds)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RankFacts, rank, num_ranks, launch, host, machine, working_directory, files,
                                   instruction_set, test_variables, cpus, cpus_of_launcher, cpu_quota, omp_num_threads,
                                   omp_thread_limit, threads, available_memory_bytes, cgroup_memory_bytes,
                                   commit_memory_bytes, shared_directory, shared_error, shared_free_bytes, shared_bytes,
                                   single_copy_error, limits, num_user_processes, has_infiniband, interfaces,
                                   tcp_include, tcp_exclude, temporary, output, clock_offset_seconds, exact_sum,
                                   are_messages_whole)

}  // namespace plumb
