#include "apps/doctor/gather.hpp"

#include <ATen/Version.h>
#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <link.h>
#include <net/if.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "apps/models/cgroups.hpp"
#include "apps/models/threads.hpp"
#include "io/file/file.hpp"
#include "io/file/hdf5_version.hpp"
#include "io/file/host_name.hpp"
#include "io/run/process_memory.hpp"
#include "lib/base/shared_memory_directory.hpp"
#include "lib/base/version.hpp"
#include "lib/kernels/kernels.hpp"
#include "partition/mpi_version.hpp"

namespace plumb {

namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value ? value : "";
}

int64_t number_of(const char* name) { return std::atoll(variable(name).c_str()); }

/// The files that decide the bits of a run, or whether its ranks can talk to each other.
constexpr std::string_view kFilesThatCount[] = {"libtorch_cpu", "libc10.",  "libgomp", "libmpi.",
                                                "libhdf5",      "libm.so.", "libc.so."};

/// The build id among the notes of a loaded file, in hexadecimal; "": none.
std::string build_id(const dl_phdr_info& info) {
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info.dlpi_phdr[i];
    if (header.p_type != PT_NOTE) continue;
    const char* at = reinterpret_cast<const char*>(info.dlpi_addr + header.p_vaddr);
    for (const char* const end = at + header.p_memsz; at + sizeof(ElfW(Nhdr)) <= end;) {
      ElfW(Nhdr) note;
      std::memcpy(&note, at, sizeof note);
      const char* const name = at + sizeof note;
      const char* const bytes = name + (note.n_namesz + 3) / 4 * 4;
      at = bytes + (note.n_descsz + 3) / 4 * 4;
      if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != 4 || std::memcmp(name, "GNU", 4) != 0) continue;
      std::string text;
      for (unsigned k = 0; k < note.n_descsz; ++k) text += fmt::format("{:02x}", static_cast<unsigned char>(bytes[k]));
      return text;
    }
  }
  return "";
}

std::string version_of(const std::string& file) {
  if (file == "plumb") return std::string(version());
  if (file.starts_with("libtorch_cpu")) return TORCH_VERSION;
  if (file.starts_with("libhdf5")) return hdf5_version();
  return file.starts_with("libmpi.") ? mpi_version() : "";
}

int add_file(dl_phdr_info* info, size_t /*size*/, void* files) {
  const bool is_program = info->dlpi_name == nullptr || *info->dlpi_name == '\0';
  const std::string path = is_program ? "/proc/self/exe" : info->dlpi_name;
  const std::string name = is_program ? "plumb" : fs::path(path).filename().string();
  bool counts = is_program;
  for (const std::string_view prefix : kFilesThatCount) counts = counts || name.starts_with(prefix);
  auto& list = *static_cast<std::vector<LoadedFile>*>(files);
  if (!counts || (is_program && !list.empty())) return 0;  // the vdso has no name either
  std::string identity = build_id(*info);
  struct stat status = {};
  if (identity.empty() && ::stat(path.c_str(), &status) == 0) identity = fmt::format("{} bytes", status.st_size);
  list.push_back({name, version_of(name), identity});
  return 0;
}

std::string line_of(const char* path) {
  std::string line;
  std::getline(std::ifstream(path), line);
  return line;
}

std::string vendor_of_processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("vendor_id")) return line.substr(std::min(line.size(), line.find(':') + 2));
  return "";
}

/// Bytes that may still be promised where the kernel promises no more than it has; -1: it does.
int64_t commit_memory_left() {
  if (line_of("/proc/sys/vm/overcommit_memory") != "2") return -1;
  int64_t limit = 0, committed = 0, kilobytes = 0;
  std::ifstream file("/proc/meminfo");
  for (std::string word; file >> word;) {
    if (word == "CommitLimit:" && file >> kilobytes) limit = kilobytes * 1024;
    if (word == "Committed_AS:" && file >> kilobytes) committed = kilobytes * 1024;
  }
  return std::max<int64_t>(0, limit - committed);
}

std::vector<ProcessLimit> gather_limits() {
  struct Kind {
    int resource;
    const char *name, *option;
  };
  constexpr Kind kKinds[] = {{RLIMIT_NOFILE, "open files", "n"},     {RLIMIT_STACK, "stack size", "s"},
                             {RLIMIT_AS, "virtual memory", "v"},     {RLIMIT_DATA, "data size", "d"},
                             {RLIMIT_FSIZE, "file size", "f"},       {RLIMIT_CPU, "cpu time", "t"},
                             {RLIMIT_MEMLOCK, "locked memory", "l"}, {RLIMIT_NPROC, "user processes", "u"},
                             {RLIMIT_CORE, "core file size", "c"}};
  std::vector<ProcessLimit> limits;
  for (const Kind& kind : kKinds) {
    struct rlimit limit = {};
    if (::getrlimit(static_cast<__rlimit_resource>(kind.resource), &limit) != 0) continue;
    // root is exempt from the limit of processes
    const bool is_unlimited = limit.rlim_cur == RLIM_INFINITY || (kind.resource == RLIMIT_NPROC && ::geteuid() == 0);
    limits.push_back({kind.name, kind.option, is_unlimited ? -1 : static_cast<int64_t>(limit.rlim_cur)});
  }
  return limits;
}

/// Processes and threads of this user.
int64_t count_user_processes() {
  int64_t count = 0;
  std::error_code error;
  for (fs::directory_iterator entry("/proc", error), end; !error && entry != end; entry.increment(error)) {
    const std::string path = entry->path().string();
    struct stat status = {};
    if (!std::isdigit(static_cast<unsigned char>(path[6])) || ::stat(path.c_str(), &status) != 0 ||
        status.st_uid != ::geteuid())
      continue;
    std::error_code gone;
    count += std::distance(fs::directory_iterator(path + "/task", gone), fs::directory_iterator());
  }
  return count;
}

std::vector<NetworkInterface> gather_interfaces() {
  std::vector<NetworkInterface> interfaces;
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return interfaces;
  for (const ifaddrs* at = all; at != nullptr; at = at->ifa_next) {
    const bool is_up = (at->ifa_flags & IFF_UP) != 0 && (at->ifa_flags & IFF_LOOPBACK) == 0;
    if (!is_up || at->ifa_addr == nullptr || at->ifa_addr->sa_family != AF_INET) continue;
    char text[INET_ADDRSTRLEN] = {};
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(at->ifa_addr)->sin_addr, text, sizeof text);
    const uint32_t mask = at->ifa_netmask ? reinterpret_cast<const sockaddr_in*>(at->ifa_netmask)->sin_addr.s_addr : 0;
    interfaces.push_back({at->ifa_name, text, std::popcount(mask)});
  }
  ::freeifaddrs(all);
  return interfaces;
}

std::string name_of_file_system(int64_t magic) {
  struct Kind {
    int64_t magic;
    const char* name;
  };
  constexpr Kind kKinds[] = {{0xEF53, "ext4"},       {0x58465342, "xfs"},     {0x9123683E, "btrfs"},
                             {0x01021994, "tmpfs"},  {0x858458f6, "ramfs"},   {0x794c7630, "overlay"},
                             {0x6969, "nfs"},        {0x0BD00BD0, "lustre"},  {0x47504653, "gpfs"},
                             {0x19830326, "beegfs"}, {0x00c36400, "ceph"},    {0xFF534D42, "cifs"},
                             {0x65735546, "fuse"},   {0x2FC12FC1, "zfs"},     {0x5346414F, "afs"},
                             {0x01021997, "9p"},     {0x6a656a63, "virtiofs"}};
  for (const Kind& kind : kKinds)
    if (kind.magic == magic) return kind.name;
  return fmt::format("file system {:#x}", magic);
}

void gather_processors(RankFacts& facts) {
  facts.cpus = allowed_cpus();
  facts.cpus_of_launcher = allowed_cpus(::getppid());
  const double quota = cpu_quota(own_cgroups());
  facts.cpu_quota = std::isfinite(quota) ? quota : 0;
  facts.omp_num_threads = variable("OMP_NUM_THREADS");
  facts.omp_thread_limit = variable("OMP_THREAD_LIMIT");
  facts.instruction_set =
      fmt::format("{}, LibTorch {}, {}", kernel_instruction_set(), at::get_cpu_capability(), vendor_of_processor());
}

void gather_memory(RankFacts& facts) {
  facts.available_memory_bytes = available_memory_bytes();
  facts.cgroup_memory_bytes = cgroup_memory_left(own_cgroups());
  facts.commit_memory_bytes = commit_memory_left();
  facts.shared_directory = shared_memory_directory();
  struct statfs disk = {};
  if (::statfs(facts.shared_directory.c_str(), &disk) != 0 || ::access(facts.shared_directory.c_str(), W_OK) != 0)
    facts.shared_error = fmt::format("{}: cannot be written: {}", facts.shared_directory, std::strerror(errno));
  facts.shared_free_bytes = static_cast<int64_t>(disk.f_bavail) * disk.f_bsize;
  facts.shared_bytes = static_cast<int64_t>(disk.f_blocks) * disk.f_bsize;
}

DirectoryFacts gather_temporary() {
  const std::string given = variable("TMPDIR");
  const std::string path = given.empty() ? "/tmp" : given;
  DirectoryFacts tmp = gather_directory(path);
  if (tmp.error.empty() && ::access(path.c_str(), W_OK | X_OK) != 0)
    tmp.error = fmt::format("{}: cannot be written: {}", path, std::strerror(errno));
  return tmp;
}

}  // namespace

LaunchFacts gather_launch() {
  const std::string type = variable("SLURM_MPI_TYPE");
  if (const int64_t size = number_of("OMPI_COMM_WORLD_SIZE"); size > 0) return {"mpirun", size, ""};
  if (const int64_t size = number_of("SLURM_STEP_NUM_TASKS"); size > 0) return {"srun", size, type};
  if (const int64_t size = number_of("PMI_SIZE"); size > 0) return {"mpiexec", size, ""};
  return {};
}

DirectoryFacts gather_directory(const std::string& path) {
  DirectoryFacts facts;
  facts.path = path;
  struct statfs disk = {};
  if (::statfs(path.c_str(), &disk) != 0) {
    facts.error = fmt::format("{}: {}", path, std::strerror(errno));
    return facts;
  }
  facts.file_system = name_of_file_system(disk.f_type);
  facts.free_bytes = static_cast<int64_t>(disk.f_bavail) * disk.f_bsize;
  if (disk.f_files > 0) facts.free_files = static_cast<int64_t>(disk.f_ffree);
  return facts;
}

RankFacts gather_rank() {
  RankFacts facts;
  facts.host = host_name();
  facts.machine = line_of("/proc/sys/kernel/random/boot_id");
  std::error_code error;
  facts.working_directory = fs::current_path(error).string();
  ::dl_iterate_phdr(add_file, &facts.files);
  for (const char* name : {"PLUMB_FAULT", "PLUMB_RANKS_PER_NODE"})
    if (!variable(name).empty()) facts.test_variables.emplace_back(name);
  gather_processors(facts);
  gather_memory(facts);
  facts.limits = gather_limits();
  facts.num_user_processes = count_user_processes();
  facts.has_infiniband = fs::exists("/sys/class/infiniband", error) && !fs::is_empty("/sys/class/infiniband", error);
  facts.interfaces = gather_interfaces();
  facts.tcp_include = variable("OMPI_MCA_btl_tcp_if_include");
  facts.tcp_exclude = variable("OMPI_MCA_btl_tcp_if_exclude");
  facts.temporary = gather_temporary();
  return facts;
}

}  // namespace plumb
