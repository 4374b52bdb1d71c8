// How many threads a rank computes with: --threads, else OMP_NUM_THREADS, else as many as the process may use CPUs, by
// its affinity, which launchers set, and by the quota of its cgroups, which containers set. More threads than CPUs wait
// for each other. Source: sched_setaffinity(2), OpenMP's OMP_NUM_THREADS.
#pragma once

#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "partition/communicator.hpp"

namespace plumb {

/// Numbers of CPUs, ascending.
using CpuList = std::vector<int>;

/// The CPUs that a process may run on; 0: this one. Empty if the kernel does not say.
CpuList allowed_cpus(int process = 0);

/// The first number of OMP_NUM_THREADS; 0 if it has none that is above 0.
int threads_in_environment(const char* omp_num_threads);

/// The threads for one of the ranks of a node, whose CPUs are `cpus_by_rank`: a CPU that n of them may use counts 1/n.
int share_of_cpus(std::span<const CpuList> cpus_by_rank, size_t rank, double quota);

/// A warning where ranks of a node share CPUs although the launcher has enough for all, with the options of mpirun and
/// srun that mend it; "" otherwise.
std::string describe_crowding(std::span<const CpuList> cpus_by_rank, const CpuList& of_launcher, int threads);

/// Collective: the number for every rank of this run, the same on all, since the bits depend on it. given: --threads,
/// or 0. Rank 0 warns once where ranks share CPUs that they need not share.
int choose_threads(const Communicator& comm, int given);
/// The same for a process that is alone.
int choose_threads(int given);

}  // namespace plumb
