#include "apps/models/threads.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "io/file/file.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

double ratio(const std::string& quota, double period) {
  const double microseconds = std::atof(quota.c_str());  // "max" and -1: no limit
  return microseconds > 0 && period > 0 ? microseconds / period : kNoLimit;
}

/// The limit of one directory of cgroups, of version 2 or 1.
double quota_of(const std::string& directory) {
  std::string quota;
  double period = 0;
  if (std::ifstream file(join_path(directory, "cpu.max")); file >> quota >> period) return ratio(quota, period);
  std::ifstream(join_path(directory, "cpu.cfs_quota_us")) >> quota;
  std::ifstream(join_path(directory, "cpu.cfs_period_us")) >> period;
  return ratio(quota, period);
}

/// The least of a cgroup and those above it. Within a container its own path may not exist; the top is then its own.
double least_quota(const std::string& top, std::string path) {
  double least = kNoLimit;
  for (;; path.resize(path.rfind('/'))) {
    least = std::min(least, quota_of(top + path));
    if (path.empty() || path.find('/') == std::string::npos) return least;
  }
}

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

double own_quota() {
  std::ostringstream text;
  text << std::ifstream("/proc/self/cgroup").rdbuf();
  return cpu_quota(text.str());
}

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

double cpu_quota(std::string_view cgroups, const std::string& root) {
  double least = kNoLimit;
  std::istringstream lines{std::string(cgroups)};
  for (std::string line; std::getline(lines, line);) {  // NUMBER:CONTROLLERS:PATH
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    std::vector<std::string> tops;
    if (controllers.empty()) tops = {root, root + "/unified"};
    if (("," + controllers + ",").find(",cpu,") != std::string::npos) tops = {root + "/" + controllers, root + "/cpu"};
    for (const std::string& top : tops) least = std::min(least, least_quota(top, path == "/" ? "" : path));
  }
  return least;
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
