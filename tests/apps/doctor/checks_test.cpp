// plumb doctor finds each planted problem, and nothing on a healthy machine. PLUMB_PLANTS=FILE makes the table of
// benchmarks/results/doctor.md from the plants.
#include "apps/doctor/checks.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <set>

#include "apps/doctor/gather.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

DirectoryFacts healthy_directory(const char* path, const char* file_system) {
  DirectoryFacts facts;
  facts.path = path;
  facts.file_system = file_system;
  facts.free_bytes = 400 * kGiB;
  facts.free_files = 1'000'000;
  return facts;
}

/// Four ranks on two hosts of four CPUs each.
Facts healthy() {
  Facts facts(4);
  for (int i = 0; i < 4; ++i) {
    RankFacts& rank = facts[i];
    rank.rank = i;
    rank.num_ranks = 4;
    rank.launch = {"srun", 4, "pmix"};
    rank.host = i < 2 ? "n1" : "n2";
    rank.machine = rank.host + "-boot";
    rank.working_directory = "/home/user";
    rank.files = {{"plumb", "0.1.0", "aaaa"}, {"libtorch_cpu.so", "2.15.0", "bbbb"}, {"libm.so.6", "", "cccc"}};
    rank.instruction_set = "x86_64_v4, LibTorch AVX512, AuthenticAMD";
    rank.cpus = i % 2 == 0 ? std::vector<int>{0, 1} : std::vector<int>{2, 3};
    rank.cpus_of_launcher = {0, 1, 2, 3};
    rank.threads = 2;
    rank.omp_num_threads = "2";
    rank.available_memory_bytes = 60 * kGiB;
    rank.shared_directory = "/dev/shm";
    rank.shared_bytes = rank.shared_free_bytes = 32 * kGiB;
    rank.limits = {{"open files", "n", 1024},       {"stack size", "s", 8 << 20},  {"virtual memory", "v", -1},
                   {"locked memory", "l", 8 << 20}, {"user processes", "u", 4096}, {"core file size", "c", 0}};
    rank.num_user_processes = 20;
    rank.interfaces = {{"eth0", i < 2 ? "10.0.0.1" : "10.0.0.2", 24}};
    rank.temporary = healthy_directory("/tmp", "ext4");
    rank.output = healthy_directory("/lustre/runs", "lustre");
    rank.output.has_won = i == 1;
    rank.exact_sum = known_answer();
  }
  return facts;
}

struct Plant {
  const char* what;
  const char* check;
  std::string_view part;  // of text or cure
  std::function<void(Facts&)> plant;
};

void plant_limit(Facts& facts, const char* name, const char* option, int64_t value) {
  for (ProcessLimit& limit : facts[2].limits)
    if (limit.name == name) return void(limit.value = value);
  facts[2].limits.push_back({name, option, value});
}

std::vector<Plant> plants_of_the_job() {
  return {
      {"srun without PMIx: as many jobs as ranks", "launch", "srun --mpi=pmix",
       [](Facts& f) {
         f.resize(1);
         f[0].num_ranks = 1;
         f[0].launch.mpi_type = "none";
         f[0].output.has_won = true;
       }},
      {"mpiexec of another MPI", "launch", "the mpirun of the Open MPI",
       [](Facts& f) {
         f.resize(1);
         f[0].num_ranks = 1;
         f[0].launch = {"mpiexec", 4, ""};
         f[0].output.has_won = true;
       }},
      {"two machines of one name", "host names", "2 machines are named n1",
       [](Facts& f) {
         for (RankFacts& rank : f) rank.host = "n1", rank.threads = 1, rank.omp_num_threads = "1";
       }},
      {"a variable of the tests is left set", "environment", "unset PLUMB_FAULT",
       [](Facts& f) { f[3].test_variables = {"PLUMB_FAULT"}; }},
      {"a host has no such directory, so that ranks start elsewhere", "directory", "/tmp on rank 3 on n2",
       [](Facts& f) { f[3].working_directory = "/tmp"; }},
      {"another build of plumb on a host", "versions", "plumb: 0.1.0 aaaa on 2 ranks",
       [](Facts& f) { f[2].files[0].identity = f[3].files[0].identity = "dddd"; }},
      {"another LibTorch on a host", "versions", "libtorch_cpu.so: 2.14.0 eeee on rank 3 on n2",
       [](Facts& f) {
         f[3].files[1] = {"libtorch_cpu.so", "2.14.0", "eeee"};
       }},
      {"another math library on a host", "versions", "libm.so.6", [](Facts& f) { f[2].files[2].identity = "ffff"; }},
      {"a processor with fewer instructions", "processors", "x86_64_v3",
       [](Facts& f) { f[3].instruction_set = "x86_64_v3, LibTorch AVX2, AuthenticAMD"; }},
      {"Docker's bridge on every host", "network", "172.17.0.1",
       [](Facts& f) {
         for (RankFacts& rank : f) rank.interfaces.push_back({"docker0", "172.17.0.1", 16});
       }},
      {"a bridge of virtual machines on one host", "network", "virbr0 (192.168.122.1/24) on n2",
       [](Facts& f) {
         f[2].interfaces.push_back({"virbr0", "192.168.122.1", 24});
       }},
      {"btl_tcp_if_include names what a host has not", "network", "n2 has no interface",
       [](Facts& f) {
         for (RankFacts& rank : f) rank.tcp_include = "10.0.0.1/32";
       }},
      {"an MPI or memory that changes numbers", "reduction", "rank 2 on n2 got 0123",
       [](Facts& f) { f[2].exact_sum = "0123"; }},
      {"a network that changes bytes", "reduction", "rank 1 on n1 received",
       [](Facts& f) { f[1].are_messages_whole = false; }},
      {"a clock an hour late", "clocks", "n2 is -3600.0 s",
       [](Facts& f) { f[2].clock_offset_seconds = f[3].clock_offset_seconds = -3600; }},
      {"a file server with another time", "clocks", "the file system of /lustre/runs is +90.0 s",
       [](Facts& f) { f[0].output.clock_offset_seconds = 90; }},
  };
}

std::vector<Plant> plants_of_a_host() {
  return {
      {"more threads than CPUs", "cores", "2 ranks with 8 threads each on 4 CPUs of n1",
       [](Facts& f) {
         for (RankFacts& rank : f) rank.threads = 8, rank.omp_num_threads = "8";
       }},
      {"a cgroup quota below the CPUs", "cores", "on 1.5 CPUs",
       [](Facts& f) {
         for (RankFacts& rank : f) rank.cpu_quota = 1.5;
       }},
      {"both ranks of a host bound to one core", "binding", "mpirun --map-by slot:PE=2 --bind-to core",
       [](Facts& f) { f[2].cpus = f[3].cpus = {0}, f[2].cpu_quota = 0; }},
      {"OMP_NUM_THREADS is no number", "OpenMP", "OMP_NUM_THREADS=all is no number",
       [](Facts& f) {
         for (RankFacts& rank : f) rank.omp_num_threads = "all";
       }},
      {"OMP_NUM_THREADS differs", "OpenMP", "all use the least", [](Facts& f) { f[3].omp_num_threads = "1"; }},
      {"OMP_THREAD_LIMIT below the threads", "OpenMP", "unset OMP_THREAD_LIMIT",
       [](Facts& f) { f[0].omp_thread_limit = "1"; }},
      {"a cgroup with little memory", "memory", "the limit of its cgroup",
       [](Facts& f) { f[2].cgroup_memory_bytes = 100 << 20; }},
      {"memory that others use", "memory", "MemAvailable", [](Facts& f) { f[0].available_memory_bytes = 300 << 20; }},
      {"vm.overcommit_memory=2", "memory", "vm.overcommit_memory=2",
       [](Facts& f) { f[0].commit_memory_bytes = 300 << 20; }},
      {"Docker's /dev/shm of 64 MiB", "shared memory", "docker run --shm-size",
       [](Facts& f) { f[0].shared_bytes = f[0].shared_free_bytes = 64 << 20; }},
      {"PLUMB_SHM_DIR that cannot be written", "shared memory", "/none: cannot be written",
       [](Facts& f) { f[1].shared_error = "/none: cannot be written"; }},
      {"a container without process_vm_readv", "single copy", "SYS_PTRACE",
       [](Facts& f) { f[0].single_copy_error = "Operation not permitted"; }},
      {"ulimit -n 64", "limits", "open files is 64", [](Facts& f) { plant_limit(f, "open files", "n", 64); }},
      {"ulimit -s 64", "limits", "stack size is 65536", [](Facts& f) { plant_limit(f, "stack size", "s", 65536); }},
      {"ulimit -v 8000000", "limits", "ulimit -v unlimited",
       [](Facts& f) { plant_limit(f, "virtual memory", "v", 8'000'000'000); }},
      {"ulimit -f 1000000", "limits", "SIGXFSZ", [](Facts& f) { plant_limit(f, "file size", "f", 1'024'000'000); }},
      {"ulimit -t 3600, as on login nodes", "limits", "cpu time is 3600",
       [](Facts& f) { plant_limit(f, "cpu time", "t", 3600); }},
      {"few processes of a user", "limits", "user processes is 100",
       [](Facts& f) { plant_limit(f, "user processes", "u", 100); }},
      {"InfiniBand with little locked memory", "limits", "locked memory",
       [](Facts& f) {
         f[2].has_infiniband = true;
         plant_limit(f, "locked memory", "l", 65536);
       }},
  };
}

std::vector<Plant> plants_of_directories() {
  return {
      {"TMPDIR that does not exist", "TMPDIR", "/gone: No such file or directory",
       [](Facts& f) { f[3].temporary.error = "/gone: No such file or directory"; }},
      {"TMPDIR on NFS", "TMPDIR", "session directories", [](Facts& f) { f[3].temporary.file_system = "nfs"; }},
      {"a full TMPDIR", "TMPDIR", "expected 64 MiB", [](Facts& f) { f[3].temporary.free_bytes = 1 << 20; }},
      {"output_dir is read-only", "output_dir", "Read-only file system",
       [](Facts& f) { f[0].output.error = "/lustre/runs: cannot be created: Read-only file system"; }},
      {"output_dir is every host's own", "output_dir", "rank 2 on n2 does not see",
       [](Facts& f) {
         f[2].output.unseen_ranks = {0};
         f[2].output.has_won = true;
       }},
      {"a full disk", "disk", "expected 1.00 GiB in /lustre/runs, got 200 MiB",
       [](Facts& f) { f[0].output.free_bytes = 200 << 20; }},
      {"a quota", "disk", "(a quota?)", [](Facts& f) { f[2].output.has_room = false; }},
      {"no inodes", "disk", "free inodes, got 3", [](Facts& f) { f[0].output.free_files = 3; }},
      {"a file system without flock", "locks", "HDF5_USE_FILE_LOCKING=FALSE",
       [](Facts& f) { f[0].output.lock_error = "No locks available"; }},
      {"a file system that creates a file twice", "locks", "created by 2",
       [](Facts& f) { f[2].output.has_won = true; }},
  };
}

std::vector<Plant> all_plants() {
  std::vector<Plant> all;
  for (const auto& part : {plants_of_the_job(), plants_of_a_host(), plants_of_directories()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

std::vector<Finding> problems(const Facts& facts) {
  std::vector<Finding> found = examine(facts);
  std::erase_if(found, [](const Finding& finding) { return finding.is_ok; });
  return found;
}

TEST(Doctor, IsSilentOnAHealthyMachine) {
  for (const Finding& found : problems(healthy())) ADD_FAILURE() << found.check << ": " << found.text;
  Facts alone = healthy();
  alone.resize(1);  // Docker's default memory and bridge do not matter to one rank alone
  alone[0].num_ranks = 1;
  alone[0].launch = {};
  alone[0].shared_free_bytes = 64 << 20;
  alone[0].interfaces.push_back({"docker0", "172.17.0.1", 16});
  alone[0].output = {};
  for (const Finding& found : problems(alone)) ADD_FAILURE() << found.check << ": " << found.text;
  Facts chosen = healthy();
  for (RankFacts& rank : chosen) {
    rank.interfaces.push_back({"docker0", "172.17.0.1", 16});
    rank.tcp_include = "eth0";
    rank.omp_num_threads = "";
  }
  for (const Finding& found : problems(chosen)) ADD_FAILURE() << found.check << ": " << found.text;
  for (RankFacts& rank : chosen) rank.tcp_include = "", rank.tcp_exclude = "127.0.0.1/8,docker0";
  for (const Finding& found : problems(chosen)) ADD_FAILURE() << found.check << ": " << found.text;
}

TEST(Doctor, FindsEveryPlantAndNothingElse) {
  std::ofstream table;
  if (const char* const path = std::getenv("PLUMB_PLANTS")) table.open(path);
  table << "| planted | check | printed | cure |\n|---|---|---|---|\n";
  std::set<std::string> checks;
  for (const Plant& planted : all_plants()) {
    Facts facts = healthy();
    planted.plant(facts);
    const std::vector<Finding> found = problems(facts);
    ASSERT_EQ(found.size(), 1u) << planted.what << (found.size() > 1 ? ": also " + found[1].text : "");
    EXPECT_EQ(found[0].check, planted.check) << planted.what;
    EXPECT_NE((found[0].text + "\n" + found[0].cure).find(planted.part), std::string::npos)
        << planted.what << ": " << found[0].text << "; " << found[0].cure;
    EXPECT_FALSE(found[0].cure.empty()) << planted.what;
    checks.insert(found[0].check);
    table << "| " << planted.what << " | " << found[0].check << " | " << found[0].text << " | " << found[0].cure
          << " |\n";
  }
  EXPECT_GE(all_plants().size(), 20u);
  for (const Finding& finding : examine(healthy())) EXPECT_TRUE(checks.contains(finding.check)) << finding.check;
}

TEST(Doctor, NeedsRoomForMpiBeforeItStarts) {
  RankFacts rank = healthy()[0];
  rank.shared_free_bytes = 10 << 20;
  EXPECT_TRUE(check_room_for_mpi(rank, 1).is_ok);
  EXPECT_TRUE(check_room_for_mpi(rank, 2).is_ok);
  expect_contains(check_room_for_mpi(rank, 3).text, {"MPI needs 12 MiB in /dev/shm to start 3 ranks, got 10 MiB"});
  rank.temporary.free_bytes = 1 << 20;
  expect_contains(check_room_for_mpi(rank, 1).text, {"MPI needs 16 MiB in /tmp, got 1.00 MiB"});
}

TEST(Doctor, MeasuresThisProcess) {
  const RankFacts facts = gather_rank();
  EXPECT_FALSE(facts.host.empty());
  EXPECT_FALSE(facts.machine.empty());
  EXPECT_FALSE(facts.cpus.empty());
  EXPECT_GT(facts.available_memory_bytes, 0);
  EXPECT_GT(facts.num_user_processes, 0);
  EXPECT_EQ(facts.shared_error, "");
  EXPECT_EQ(facts.temporary.error, "");
  std::set<std::string> names;
  for (const LoadedFile& file : facts.files) {
    EXPECT_FALSE(file.identity.empty()) << file.name;
    names.insert(file.name.substr(0, file.name.find('.')));
    if (file.name.starts_with("libtorch_cpu") || file.name.starts_with("libmpi.") || file.name.starts_with("libhdf5")) {
      EXPECT_NE(file.version.find('.'), std::string::npos) << file.name;
    }
  }
  for (const char* name : {"plumb", "libtorch_cpu", "libmpi", "libm", "libc"})
    EXPECT_TRUE(names.contains(name)) << name;
  for (const char* name : {"open files", "virtual memory", "stack size"})
    EXPECT_TRUE(std::any_of(facts.limits.begin(), facts.limits.end(), [&](const ProcessLimit& l) {
      return l.name == name;
    })) << name;
}

TEST(Doctor, KnowsTheLauncher) {
  const auto set = [](const char* name, const char* value) { value ? ::setenv(name, value, 1) : ::unsetenv(name); };
  const char* const names[] = {"OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "PMI_SIZE", "SLURM_MPI_TYPE"};
  for (const char* name : names) set(name, nullptr);
  EXPECT_EQ(gather_launch().expected_ranks, 0);
  set("PMI_SIZE", "3");
  EXPECT_EQ(gather_launch().launcher, "mpiexec");
  set("SLURM_STEP_NUM_TASKS", "4");
  set("SLURM_MPI_TYPE", "none");
  EXPECT_EQ(gather_launch().launcher, "srun");
  EXPECT_EQ(gather_launch().mpi_type, "none");
  set("OMPI_COMM_WORLD_SIZE", "8");  // mpirun in a job of Slurm starts one process per node by srun
  EXPECT_EQ(gather_launch().launcher, "mpirun");
  EXPECT_EQ(gather_launch().expected_ranks, 8);
  for (const char* name : names) set(name, nullptr);
}

}  // namespace
}  // namespace plumb
