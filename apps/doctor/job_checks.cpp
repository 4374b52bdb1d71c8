// Checks of what all ranks of a job must have in common.
#include <arpa/inet.h>

#include <cmath>
#include <cstdlib>
#include <optional>
#include <set>

#include "apps/doctor/by_host.hpp"

namespace plumb {

namespace {

constexpr double kMaxClockSkewSeconds = 5;  // heartbeats of locks and status files are compared with a minute

/// Prefixes of interfaces within a machine, for containers and virtual machines.
constexpr std::string_view kInternalInterfaces[] = {"docker", "br-",  "virbr", "veth", "cni",   "flannel", "podman",
                                                    "lxc",    "cali", "vnet",  "tap",  "lxdbr", "kube",    "weave"};

bool is_internal(const std::string& name) {
  return std::any_of(std::begin(kInternalInterfaces), std::end(kInternalInterfaces),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

std::vector<std::string> split_at_commas(const std::string& text) {
  std::vector<std::string> items;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) items.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return items;
}

uint32_t number_of(const std::string& address) {
  in_addr parsed = {};
  return ::inet_pton(AF_INET, address.c_str(), &parsed) == 1 ? ntohl(parsed.s_addr) : 0;
}

uint32_t mask_of(int64_t prefix_bits) {
  return prefix_bits <= 0 ? 0 : ~uint32_t{0} << (32 - std::min<int64_t>(32, prefix_bits));
}

/// item: of btl_tcp_if_include: a name, or a network such as 10.0.0.0/16.
bool names(const std::string& item, const NetworkInterface& interface) {
  const size_t slash = item.find('/');
  if (slash == std::string::npos) return item == interface.name;
  const uint32_t mask = mask_of(std::atoi(item.c_str() + slash + 1));
  return (number_of(item.substr(0, slash)) & mask) == (number_of(interface.address) & mask);
}

/// The interfaces that Open MPI's TCP transport uses.
std::vector<NetworkInterface> used_interfaces(const RankFacts& rank) {
  const bool includes = !rank.tcp_include.empty();
  const std::vector<std::string> items = split_at_commas(includes ? rank.tcp_include : rank.tcp_exclude);
  std::vector<NetworkInterface> used;
  for (const NetworkInterface& interface : rank.interfaces) {
    const bool is_named =
        std::any_of(items.begin(), items.end(), [&](const std::string& item) { return names(item, interface); });
    if (is_named == includes) used.push_back(interface);
  }
  return used;
}

std::string describe(const NetworkInterface& interface) {
  return fmt::format("{} ({}/{})", interface.name, interface.address, interface.prefix_bits);
}

/// An address that hosts other than this one have as well, as each Docker has 172.17.0.1.
std::optional<NetworkInterface> shared_address(const std::vector<HostRanks>& hosts, const HostRanks& host) {
  for (const NetworkInterface& mine : used_interfaces(host.first()))
    for (const HostRanks& other : hosts)
      for (const NetworkInterface& theirs : used_interfaces(other.first()))
        if (other.name != host.name && mine.address == theirs.address) return mine;
  return std::nullopt;
}

/// The networks in which every host has an interface, as "10.0.0.0/24".
std::set<std::string> common_networks(const std::vector<HostRanks>& hosts) {
  std::set<std::string> common;
  for (size_t i = 0; i < hosts.size(); ++i) {
    std::set<std::string> mine;
    for (const NetworkInterface& interface : used_interfaces(hosts[i].first())) {
      const uint32_t network = number_of(interface.address) & mask_of(interface.prefix_bits);
      mine.insert(fmt::format("{}.{}.{}.{}/{}", network >> 24, network >> 16 & 255, network >> 8 & 255, network & 255,
                              interface.prefix_bits));
    }
    if (i > 0) std::erase_if(mine, [&](const std::string& network) { return !common.contains(network); });
    common = mine;
  }
  return common;
}

std::string version_of(const RankFacts& rank, std::string_view prefix) {
  for (const LoadedFile& file : rank.files)
    if (file.name.starts_with(prefix)) return file.version;
  return "unknown";
}

}  // namespace

Finding check_launch(const Facts& facts) {
  const RankFacts& first = facts.front();
  const int64_t expected = first.launch.expected_ranks;
  if (expected > first.num_ranks)
    return problem(
        "launch",
        fmt::format("expected one job of {} ranks, got {} jobs of {}: MPI does not know {}{}", expected,
                    expected / first.num_ranks, first.num_ranks, first.launch.launcher,
                    first.launch.mpi_type.empty() ? "" : fmt::format(" (--mpi={})", first.launch.mpi_type)),
        first.launch.launcher == "srun"
            ? "srun --mpi=pmix (srun --mpi=list shows what this Slurm has; plumb's Open MPI needs PMIx), or mpirun"
            : "start with the mpirun of the Open MPI that plumb was built with");
  return ok("launch",
            fmt::format("{} on {}{}", plural(first.num_ranks, "rank"), plural(std::ssize(by_host(facts)), "host"),
                        first.launch.launcher.empty() ? "" : ", by " + first.launch.launcher));
}

Finding check_host_names(const Facts& facts) {
  const Finding healthy = ok("host names", fmt::format("{}", [&] {
                               std::vector<std::string> names;
                               for (const HostRanks& host : by_host(facts)) names.push_back(host.name);
                               return list_some(names);
                             }()));
  return first_problem(
      facts,
      [](const HostRanks& host) {
        std::set<std::string> machines;
        for (const RankFacts* rank : host.ranks) machines.insert(rank->machine);
        if (machines.size() == 1) return ok("host names", "");
        return problem("host names", fmt::format("{} machines are named {}", machines.size(), host.name),
                       "give each a name of its own: MPI takes ranks of one name for neighbors that share memory");
      },
      healthy);
}

Finding check_working_directory(const Facts& facts) {
  const std::string differences =
      describe_differences(facts, [](const RankFacts& rank) { return rank.working_directory; });
  if (differences.empty()) return ok("directory", facts.front().working_directory);
  return problem("directory", "expected one working directory, got " + differences,
                 "start in a directory that every host has, or give absolute paths (mpirun --wdir, srun --chdir)");
}

Finding check_environment(const Facts& facts) {
  for (const RankFacts& rank : facts)
    if (!rank.test_variables.empty())
      return problem("environment", fmt::format("{} is set, which is for tests only", list_some(rank.test_variables)),
                     fmt::format("unset {}", fmt::join(rank.test_variables, " ")));
  return ok("environment", "no variable of plumb's tests is set");
}

Finding check_versions(const Facts& facts) {
  std::set<std::string> names;
  for (const RankFacts& rank : facts)
    for (const LoadedFile& file : rank.files) names.insert(file.name);
  std::vector<std::string> differences;
  for (const std::string& name : names) {
    const std::string found = describe_differences(facts, [&](const RankFacts& rank) {
      for (const LoadedFile& file : rank.files)
        if (file.name == name)
          return fmt::format("{}{}", file.version.empty() ? "" : file.version + " ", file.identity.substr(0, 12));
      return std::string();
    });
    if (!found.empty()) differences.push_back(fmt::format("{}: {}", name, found));
  }
  if (!differences.empty())
    return problem("versions", "expected the same files on all ranks, got " + list_some(differences),
                   "install the same build on every host, or start one from a directory that all share");
  const RankFacts& first = facts.front();
  return ok("versions",
            fmt::format("plumb {}, LibTorch {}, HDF5 {}, {}", version_of(first, "plumb"),
                        version_of(first, "libtorch_cpu"), version_of(first, "libhdf5"), version_of(first, "libmpi.")));
}

Finding check_instruction_sets(const Facts& facts) {
  const std::string differences =
      describe_differences(facts, [](const RankFacts& rank) { return rank.instruction_set; });
  if (differences.empty()) return ok("processors", facts.front().instruction_set);
  return problem("processors", "expected one instruction set, got " + differences,
                 "use nodes of one kind (sbatch --constraint), as the bits of a run depend on it");
}

Finding check_reduction(const Facts& facts) {
  for (const RankFacts& rank : facts) {
    if (rank.exact_sum != known_answer())
      return problem("reduction",
                     fmt::format("expected the sum {}, {} got {}", known_answer(), name_of_rank(rank), rank.exact_sum),
                     "MPI or memory of that host changes numbers: leave it out and test it (memtest, another network)");
    if (!rank.are_messages_whole)
      return problem(
          "reduction", fmt::format("{} received bytes that no rank sent", name_of_rank(rank)),
          "MPI changes messages: try OMPI_MCA_btl=self,vader,tcp and OMPI_MCA_pml=ob1, and leave that host out");
  }
  return ok("reduction", fmt::format("exact on {}", plural(std::ssize(facts), "rank")));
}

Finding check_clocks(const Facts& facts) {
  double most = 0;
  for (const RankFacts& rank : facts) {
    const double of_files = rank.output.path.empty() ? 0 : rank.output.clock_offset_seconds;
    if (std::abs(rank.clock_offset_seconds) > kMaxClockSkewSeconds)
      return problem(
          "clocks",
          fmt::format("the clock of {} is {:+.1f} s against that of rank 0", rank.host, rank.clock_offset_seconds),
          "let chrony or ntpd set the clocks: status and locks are judged by the age of files");
    if (std::abs(of_files) > kMaxClockSkewSeconds)
      return problem("clocks",
                     fmt::format("the clock of the file system of {} is {:+.1f} s against that of {}", rank.output.path,
                                 of_files, rank.host),
                     "let chrony or ntpd set the clocks: status and locks are judged by the age of files");
    most = std::max({most, std::abs(rank.clock_offset_seconds), std::abs(of_files)});
  }
  return ok("clocks", fmt::format("differ by at most {:.3f} s", most));
}

Finding check_network(const Facts& facts) {
  const std::vector<HostRanks> hosts = by_host(facts);
  if (hosts.size() < 2) return ok("network", "one host: none is used");
  const char* const cure =
      "export OMPI_MCA_btl_tcp_if_include=NETWORK and OMPI_MCA_oob_tcp_if_include=NETWORK, such as "
      "10.0.0.0/16, in slurm/site.env";
  std::vector<std::string> internal;
  for (const HostRanks& host : hosts) {
    const std::vector<NetworkInterface> used = used_interfaces(host.first());
    if (used.empty())
      return problem("network",
                     fmt::format("{} has no interface that MPI may use{}", host.name,
                                 host.first().tcp_include.empty()
                                     ? ""
                                     : " (OMPI_MCA_btl_tcp_if_include=" + host.first().tcp_include + ")"),
                     cure);
    if (const auto same = shared_address(hosts, host))
      return problem("network",
                     fmt::format("MPI may connect {} to itself: other hosts have its address on {}, too", host.name,
                                 describe(*same)),
                     cure);
    for (const NetworkInterface& interface : used)
      if (is_internal(interface.name)) internal.push_back(fmt::format("{} on {}", describe(interface), host.name));
  }
  if (!internal.empty())
    return problem("network", "MPI may choose interfaces that do not leave their host: " + list_some(internal), cure);
  const std::set<std::string> common = common_networks(hosts);
  return ok("network", common.empty() ? "no network that all hosts are in: MPI relies on routing"
                                      : fmt::format("all hosts are in {}", fmt::join(common, ", ")));
}

}  // namespace plumb
