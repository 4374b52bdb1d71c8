// Checks of what the ranks of a host share: processors, memory, limits.
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "apps/doctor/by_host.hpp"
#include "apps/models/threads.hpp"
#include "lib/base/shared_memory_directory.hpp"
#include "partition/shared_memory.hpp"

namespace plumb {

namespace {

constexpr int64_t kLeastMemoryPerRank = int64_t{256} << 20;  // of the program with LibTorch and a small model
constexpr int64_t kLeastSharedPerRank = int64_t{64} << 20;   // MPI's 4 MiB, gathered layers and gradients
constexpr int64_t kMpiTemporaryBytes = int64_t{16} << 20;    // of Open MPI's session and PMIx
constexpr double kLeastCpuSeconds = 7 * 24 * 3600;

/// The least that a run needs of the limits that `ulimit` shows; -1: only unlimited will do.
struct LeastLimit {
  std::string_view name;
  int64_t least;
  std::string_view what_happens;
};
constexpr LeastLimit kLeastLimits[] = {
    {"open files", 512, "connections and data files cannot be opened"},
    {"stack size", 1 << 20, "threads end with SIGSEGV"},
    {"virtual memory", -1, "libraries and shared memory cannot be mapped"},
    {"data size", -1, "memory cannot be allocated"},
    {"file size", -1, "a checkpoint ends the run with SIGXFSZ"},
    {"cpu time", static_cast<int64_t>(kLeastCpuSeconds), "the kernel ends the run in the middle"},
};

std::vector<CpuList> cpus_of(const HostRanks& host) {
  std::vector<CpuList> cpus;
  for (const RankFacts* rank : host.ranks) cpus.push_back(rank->cpus);
  return cpus;
}

/// CPUs that the ranks of a host could use together, in parts of one: also those to which none is bound.
double num_cpus(const HostRanks& host) {
  std::set<int> all(host.first().cpus_of_launcher.begin(), host.first().cpus_of_launcher.end());
  for (const RankFacts* rank : host.ranks) all.insert(rank->cpus.begin(), rank->cpus.end());
  const double quota = host.first().cpu_quota;
  return quota > 0 ? std::min(quota, static_cast<double>(all.size())) : static_cast<double>(all.size());
}

int64_t num_threads(const HostRanks& host) {
  int64_t threads = 0;
  for (const RankFacts* rank : host.ranks) threads += rank->threads;
  return threads;
}

struct MemoryLeft {
  int64_t bytes = std::numeric_limits<int64_t>::max();
  std::string_view by;
};

MemoryLeft memory_left(const RankFacts& rank) {
  MemoryLeft left{rank.available_memory_bytes, "MemAvailable"};
  if (rank.cgroup_memory_bytes >= 0 && rank.cgroup_memory_bytes < left.bytes)
    left = {rank.cgroup_memory_bytes, "the limit of its cgroup"};
  if (rank.commit_memory_bytes >= 0 && rank.commit_memory_bytes < left.bytes)
    left = {rank.commit_memory_bytes, "vm.overcommit_memory=2"};
  return left;
}

std::string cure_of_small_memory(const RankFacts& facts) {
  return fmt::format("docker run --shm-size, mount -o remount,size=SIZE {}, fewer ranks per host, or {}=DIR in memory",
                     facts.shared_directory, kSharedMemoryVariable);
}

Finding unwritable_shared_memory(const RankFacts& facts) {
  return problem("shared memory", fmt::format("{}: {}", facts.host, facts.shared_error),
                 fmt::format("{} names another directory in memory", kSharedMemoryVariable));
}

}  // namespace

Finding check_cores(const Facts& facts) {
  double most = 0;
  for (const HostRanks& host : by_host(facts))
    most = std::max(most, static_cast<double>(num_threads(host)) / std::max(1.0, num_cpus(host)));
  return first_problem(
      facts,
      [](const HostRanks& host) {
        const double cpus = num_cpus(host);
        const int64_t threads = num_threads(host), per_rank = threads / host.num_ranks();
        if (cpus <= 0 || static_cast<double>(threads) <= cpus + 1e-6) return ok("cores", "");
        return problem(
            "cores",
            fmt::format("{} with {} each on {:g} CPUs of {}", plural(host.num_ranks(), "rank"),
                        plural(per_rank, "thread"), cpus, host.name),
            fmt::format("at most {:.0f} ranks x threads on this host: fewer ranks, or OMP_NUM_THREADS={:.0f}", cpus,
                        std::max(1.0, std::floor(cpus / static_cast<double>(host.num_ranks())))));
      },
      ok("cores", fmt::format("{} per rank; {:.0f} % of the CPUs are used", plural(facts.front().threads, "thread"),
                              100 * most)));
}

Finding check_binding(const Facts& facts) {
  return first_problem(
      facts,
      [](const HostRanks& host) {
        const std::string crowding =
            describe_crowding(cpus_of(host), host.first().cpus_of_launcher, static_cast<int>(host.first().threads));
        const size_t cure = crowding.find(": start with ");
        if (crowding.empty()) return ok("binding", "");
        return problem("binding", fmt::format("{}: {}", host.name, crowding.substr(0, cure)),
                       crowding.substr(cure + 2));
      },
      ok("binding", "no rank shares CPUs without need"));
}

Finding check_omp_variables(const Facts& facts) {
  const char* const cure = "the same whole number above 0 on all ranks, or unset it";
  const std::string differences =
      describe_differences(facts, [](const RankFacts& rank) { return rank.omp_num_threads; });
  if (!differences.empty())
    return problem("OpenMP", "expected one OMP_NUM_THREADS, got " + differences + ": all use the least", cure);
  for (const RankFacts& rank : facts) {
    const int given = threads_in_environment(rank.omp_num_threads.c_str());
    if (!rank.omp_num_threads.empty() && given == 0)
      return problem("OpenMP", fmt::format("OMP_NUM_THREADS={} is no number of threads", rank.omp_num_threads), cure);
    const int limit = threads_in_environment(rank.omp_thread_limit.c_str());
    if (limit > 0 && limit < rank.threads)
      return problem(
          "OpenMP", fmt::format("OMP_THREAD_LIMIT={} is below the {} of a rank", limit, plural(rank.threads, "thread")),
          "unset OMP_THREAD_LIMIT");
  }
  const std::string& given = facts.front().omp_num_threads;
  return ok("OpenMP",
            given.empty() ? "OMP_NUM_THREADS is not set: as many threads as CPUs" : "OMP_NUM_THREADS=" + given);
}

Finding check_memory(const Facts& facts) {
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const HostRanks& host : by_host(facts))
    least = std::min(least, memory_left(host.first()).bytes / host.num_ranks());
  return first_problem(
      facts,
      [](const HostRanks& host) {
        const MemoryLeft left = memory_left(host.first());
        const int64_t needed = host.num_ranks() * kLeastMemoryPerRank;
        if (left.bytes >= needed) return ok("memory", "");
        return problem("memory",
                       fmt::format("expected {} for {} on {}, got {} ({})", render_bytes(needed),
                                   plural(host.num_ranks(), "rank"), host.name, render_bytes(left.bytes), left.by),
                       "fewer ranks on this host, or more memory for the job (sbatch --mem, docker run --memory)");
      },
      ok("memory", render_bytes(least) + " per rank"));
}

Finding check_shared_memory(const Facts& facts) {
  const RankFacts& first = facts.front();
  return first_problem(
      facts,
      [](const HostRanks& host) {
        for (const RankFacts* rank : host.ranks)
          if (!rank->shared_error.empty()) return unwritable_shared_memory(*rank);
        const int64_t needed = host.num_ranks() * kLeastSharedPerRank, left = host.first().shared_free_bytes;
        if (host.num_ranks() == 1 || left >= needed) return ok("shared memory", "");
        return problem("shared memory",
                       fmt::format("expected {} in {} for {} on {}, got {} of {}", render_bytes(needed),
                                   host.first().shared_directory, plural(host.num_ranks(), "rank"), host.name,
                                   render_bytes(left), render_bytes(host.first().shared_bytes)),
                       cure_of_small_memory(host.first()));
      },
      ok("shared memory", fmt::format("{}, {} free of {}", first.shared_directory,
                                      render_bytes(first.shared_free_bytes), render_bytes(first.shared_bytes))));
}

Finding check_room_for_mpi(const RankFacts& facts, int64_t num_local_ranks) {
  const int64_t needed = num_local_ranks * kMpiSegmentBytes, tmp_bytes = facts.temporary.free_bytes;
  if (!facts.temporary.error.empty()) return check_temporary_directory({facts});
  if (tmp_bytes >= 0 && tmp_bytes < kMpiTemporaryBytes)
    return problem("TMPDIR",
                   fmt::format("{}: MPI needs {} in {}, got {}", facts.host, render_bytes(kMpiTemporaryBytes),
                               facts.temporary.path, render_bytes(tmp_bytes)),
                   "remove files there, or export TMPDIR=DIR");
  if (num_local_ranks == 1 || facts.shared_free_bytes >= needed) return ok("shared memory", "");
  if (!facts.shared_error.empty()) return unwritable_shared_memory(facts);
  return problem("shared memory",
                 fmt::format("{}: MPI needs {} in {} to start {}, got {} of {}", facts.host, render_bytes(needed),
                             facts.shared_directory, plural(num_local_ranks, "rank"),
                             render_bytes(facts.shared_free_bytes), render_bytes(facts.shared_bytes)),
                 cure_of_small_memory(facts));
}

Finding check_single_copy(const Facts& facts) {
  for (const RankFacts& rank : facts)
    if (!rank.single_copy_error.empty())
      return problem("single copy",
                     fmt::format("{} cannot read the memory of its neighbor ({}), which Open MPI tries",
                                 name_of_rank(rank), rank.single_copy_error),
                     "export OMPI_MCA_btl_vader_single_copy_mechanism=none, or docker run --cap-add SYS_PTRACE");
  return ok("single copy", "ranks of a host read each other's memory, or MPI does not try");
}

Finding check_limits(const Facts& facts) {
  for (const RankFacts& rank : facts) {
    const auto limit_problem = [&](const ProcessLimit& limit, std::string_view least, std::string_view what_happens) {
      return problem("limits",
                     fmt::format("{}: {} is {}: {}", name_of_rank(rank), limit.name, limit.value, what_happens),
                     fmt::format("ulimit -{} {} before the start, or in /etc/security/limits.conf of the host",
                                 limit.option, least));
    };
    for (const ProcessLimit& limit : rank.limits) {
      if (limit.value < 0) continue;
      for (const LeastLimit& least : kLeastLimits)
        if (limit.name == least.name && (least.least < 0 || limit.value < least.least))
          return limit_problem(limit, "unlimited", least.what_happens);
      if (limit.name == "locked memory" && rank.has_infiniband)
        return limit_problem(limit, "unlimited", "InfiniBand cannot register memory");
      const int64_t needed = std::ssize(facts) > 0 ? rank.num_user_processes + 16 * (rank.threads + 4) : 0;
      if (limit.name == "user processes" && limit.value < needed)
        return limit_problem(limit, std::to_string(2 * needed),
                             fmt::format("{} run already, threads cannot start", rank.num_user_processes));
    }
  }
  return ok("limits", "files, memory, processes and processor time are enough");
}

}  // namespace plumb
