// Threads per rank: affinity, quotas of cgroups, OMP_NUM_THREADS, and the warning of ranks that share CPUs.
#include "apps/models/threads.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <filesystem>

#include "apps/models/cgroups.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

CpuList range(int begin, int end) {
  CpuList cpus;
  for (int cpu = begin; cpu < end; ++cpu) cpus.push_back(cpu);
  return cpus;
}

TEST(Threads, AreThoseOfTheAffinity) {
  const CpuList before = allowed_cpus();
  ASSERT_FALSE(before.empty());
  cpu_set_t whole, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof whole, &whole), 0);
  CPU_ZERO(&one);
  CPU_SET(before.back(), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(allowed_cpus(), CpuList{before.back()});
  EXPECT_EQ(share_of_cpus(std::vector<CpuList>{allowed_cpus()}, 0, 8), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof whole, &whole), 0);
  EXPECT_EQ(allowed_cpus(), before);
}

TEST(Threads, AreThisRanksPartOfTheCpusOfItsNode) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  const std::vector<CpuList> unbound(3, range(0, 8));
  EXPECT_EQ(share_of_cpus(unbound, 1, kNone), 2);
  EXPECT_EQ(share_of_cpus(unbound, 1, 3.5), 1);  // a quota is for all of them
  const std::vector<CpuList> bound = {range(0, 4), range(4, 6), range(6, 8)};
  EXPECT_EQ(share_of_cpus(bound, 0, kNone), 4);
  EXPECT_EQ(share_of_cpus(bound, 2, kNone), 2);
  const std::vector<CpuList> sockets = {range(0, 4), range(0, 4), range(4, 8)};
  EXPECT_EQ(share_of_cpus(sockets, 1, kNone), 2);
  EXPECT_EQ(share_of_cpus(sockets, 2, kNone), 4);
  EXPECT_EQ(share_of_cpus(std::vector<CpuList>(8, range(0, 2)), 5, kNone), 1);
}

TEST(Threads, OfTheEnvironment) {
  EXPECT_EQ(threads_in_environment(nullptr), 0);
  for (const char* none : {"", "x", "0", "-2"}) EXPECT_EQ(threads_in_environment(none), 0) << none;
  EXPECT_EQ(threads_in_environment("6"), 6);
  EXPECT_EQ(threads_in_environment(" 4,2"), 4);
}

TEST(Threads, KnowTheQuotaOfEveryCgroupAbove) {
  const TemporaryDirectory root;
  const auto write = [&](const std::string& folder, const std::string& name, const std::string& text) {
    std::filesystem::create_directories(root / folder);
    root.write(folder + "/" + name, text);
  };
  EXPECT_GT(cpu_quota("0::/a/b\n", root.path()), 1e9);
  write("a/b", "cpu.max", "max 100000\n");
  EXPECT_GT(cpu_quota("0::/a/b\n", root.path()), 1e9);
  write("a", "cpu.max", "250000 100000\n");
  EXPECT_EQ(cpu_quota("0::/a/b\n", root.path()), 2.5);
  write("", "cpu.max", "50000 100000\n");  // of a container, whose path is that of the host
  EXPECT_EQ(cpu_quota("0::/docker/gone\n", root.path()), 0.5);
  write("cpu,cpuacct/job", "cpu.cfs_quota_us", "-1\n");
  write("cpu,cpuacct/job", "cpu.cfs_period_us", "100000\n");
  const std::string version1 = "4:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/x\n";
  EXPECT_GT(cpu_quota(version1, root.path()), 1e9);
  write("cpu,cpuacct/job", "cpu.cfs_quota_us", "300000\n");
  EXPECT_EQ(cpu_quota(version1, root.path()), 3);
  EXPECT_GT(cpu_quota("no cgroups\n", root.path()), 1e9);
}

TEST(Cgroups, HaveMemoryLeft) {
  const TemporaryDirectory root;
  const auto write = [&](const std::string& folder, const std::string& name, const std::string& text) {
    std::filesystem::create_directories(root / folder);
    root.write(folder + "/" + name, text);
  };
  EXPECT_EQ(cgroup_memory_left("0::/a/b\n", root.path()), -1);
  write("a/b", "memory.max", "max\n");
  EXPECT_EQ(cgroup_memory_left("0::/a/b\n", root.path()), -1);
  write("a", "memory.max", "1000000\n");
  write("a", "memory.current", "900000\n");
  write("a", "memory.stat", "anon 100\ninactive_file 300000\n");
  EXPECT_EQ(cgroup_memory_left("0::/a/b\n", root.path()), 400000);
  write("memory/job", "memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(cgroup_memory_left("4:memory:/job\n", root.path()), -1);
  write("memory/job", "memory.limit_in_bytes", "5000\n");
  write("memory/job", "memory.usage_in_bytes", "6000\n");
  EXPECT_EQ(cgroup_memory_left("4:memory:/job\n3:cpu:/x\n", root.path()), 0);
}

TEST(Threads, ThatShareACpuAreNamedWithTheOptionThatMendsIt) {
  const CpuList launcher = range(0, 8);
  EXPECT_EQ(describe_crowding(std::vector<CpuList>(4, launcher), launcher, 2), "");
  EXPECT_EQ(describe_crowding(std::vector<CpuList>(16, launcher), launcher, 1), "");  // no binding mends that
  EXPECT_EQ(describe_crowding(std::vector<CpuList>{{0}, {1}}, launcher, 1), "");
  expect_contains(describe_crowding(std::vector<CpuList>{{0}, {0}}, launcher, 1),
                  {"a rank with 1 thread is bound to 1 CPU, which 2 ranks share, of 8", "mpirun --bind-to core",
                   "srun --cpus-per-task=1 --cpu-bind=cores"});
  expect_contains(describe_crowding(std::vector<CpuList>{{0}, {1}}, launcher, 4),
                  {"4 threads is bound to 1 CPU, of 8", "mpirun --map-by slot:PE=4 --bind-to core"});
  EXPECT_EQ(describe_crowding(std::vector<CpuList>{{0}}, {0}, 8), "");  // all under taskset: nothing to mend here
}

}  // namespace
}  // namespace plumb
