#include "apps/models/threads.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <map>

#include "apps/models/cgroups.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

/// How many of the ranks may use each CPU.
std::map<int, int> users_of(std::span<const CpuList> cpus_by_rank) {
  std::map<int, int> users;
  for (const CpuList& cpus : cpus_by_rank)
    for (const int cpu : cpus) ++users[cpu];
  return users;
}

double fair_share(const CpuList& cpus, const std::map<int, int>& users) {
  double share = 0;
  for (const int cpu : cpus) share += 1.0 / users.at(cpu);
  return share;
}

double own_quota() { return cpu_quota(own_cgroups()); }

}  // namespace

CpuList allowed_cpus(int process) {
  CpuList cpus;
  for (int most = 1024; most <= 1 << 20; most *= 2) {
    cpu_set_t* const set = CPU_ALLOC(most);
    const size_t bytes = CPU_ALLOC_SIZE(most);
    const bool is_known = ::sched_getaffinity(process, bytes, set) == 0;
    for (int cpu = 0; is_known && cpu < most; ++cpu)
      if (CPU_ISSET_S(cpu, bytes, set)) cpus.push_back(cpu);
    CPU_FREE(set);
    if (is_known) break;  // otherwise the kernel knows more CPUs
  }
  return cpus;
}

int threads_in_environment(const char* omp_num_threads) {
  if (omp_num_threads == nullptr) return 0;
  const std::string_view text(omp_num_threads);
  int threads = 0;
  const size_t begin = std::min(text.find_first_not_of(" \t"), text.size());
  std::from_chars(text.data() + begin, text.data() + text.size(), threads);
  return std::max(0, threads);
}

int share_of_cpus(std::span<const CpuList> cpus_by_rank, size_t rank, double quota) {
  const double share = fair_share(cpus_by_rank[rank], users_of(cpus_by_rank));
  const double limit = std::min(share, quota / static_cast<double>(cpus_by_rank.size()));
  return std::max(1, static_cast<int>(std::floor(limit + 1e-6)));
}

std::string describe_crowding(std::span<const CpuList> cpus_by_rank, const CpuList& of_launcher, int threads) {
  const std::map<int, int> users = users_of(cpus_by_rank);
  const auto is_crowded = [&](const CpuList& cpus) {
    return !cpus.empty() && fair_share(cpus, users) + 1e-6 < static_cast<double>(threads);
  };
  const auto crowded = std::find_if(cpus_by_rank.begin(), cpus_by_rank.end(), is_crowded);
  CpuList all = of_launcher;
  for (const auto& [cpu, count] : users) all.push_back(cpu);
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  if (crowded == cpus_by_rank.end() || std::ssize(cpus_by_rank) * threads > std::ssize(all)) return "";
  return fmt::format(
      "a rank with {} thread{} is bound to {} CPU{}{}, of {} that the launcher has: start with mpirun {}--bind-to "
      "core, "
      "or srun --cpus-per-task={} --cpu-bind=cores",
      threads, threads == 1 ? "" : "s", crowded->size(), crowded->size() == 1 ? "" : "s",
      users.at(crowded->front()) > 1 ? fmt::format(", which {} ranks share", users.at(crowded->front())) : "",
      all.size(), threads == 1 ? "" : fmt::format("--map-by slot:PE={} ", threads), threads);
}

int choose_threads(int given) {
  if (given > 0) return given;
  if (const int asked = threads_in_environment(std::getenv("OMP_NUM_THREADS")); asked > 0) return asked;
  const CpuList mine = allowed_cpus();
  return share_of_cpus({&mine, 1}, 0, own_quota());
}

int choose_threads(const Communicator& comm, int given) {
  const std::vector<CpuList> all = comm.all_gather(allowed_cpus());
  const auto begin = all.begin() + comm.node_begin(comm.node());
  const std::vector<CpuList> of_node(begin, begin + comm.node_size(comm.node()));
  const int asked = given > 0 ? given : threads_in_environment(std::getenv("OMP_NUM_THREADS"));
  const int mine = asked > 0 ? asked : share_of_cpus(of_node, comm.local_index(comm.rank()), own_quota());
  int64_t least = -mine;
  comm.max({&least, 1});
  const int threads = static_cast<int>(-least);
  static bool has_looked = false;
  const bool looks = !has_looked && comm.local_index(comm.rank()) == 0;
  has_looked = true;
  const std::string crowding = looks ? describe_crowding(of_node, allowed_cpus(::getppid()), threads) : "";
  for (const std::string& text : comm.all_gather(crowding)) {
    if (text.empty()) continue;
    if (comm.rank() == 0) log_warning("{}", text);
    break;
  }
  return threads;
}

}  // namespace plumb
