// Checks of directories: output_dir, whose file system must keep what plumb relies on, and TMPDIR.
#include "apps/doctor/by_host.hpp"

namespace plumb {

namespace {

constexpr int64_t kLeastFreeFiles = 1000;
constexpr int64_t kLeastTemporaryBytes = int64_t{64} << 20;
constexpr double kSlowSeconds = 10;  // until another rank's file is seen

bool is_shared_file_system(const std::string& name) {
  for (const char* shared : {"nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb", "afs"})
    if (name.starts_with(shared)) return true;
  return false;
}

const char* const kOnlySharedOutput = "name a directory that every host has from one server (NFS, Lustre, GPFS)";

}  // namespace

Finding check_temporary_directory(const Facts& facts) {
  for (const RankFacts& rank : facts) {
    const DirectoryFacts& tmp = rank.temporary;
    if (!tmp.error.empty())
      return problem("TMPDIR", fmt::format("{}: {}", name_of_rank(rank), tmp.error),
                     "export TMPDIR=DIR, on the host's own disk or in memory: mpirun and plumb write there");
    if (tmp.free_bytes >= 0 && tmp.free_bytes < kLeastTemporaryBytes)
      return problem("TMPDIR",
                     fmt::format("expected {} in {} of {}, got {}", render_bytes(kLeastTemporaryBytes), tmp.path,
                                 rank.host, render_bytes(tmp.free_bytes)),
                     "remove files there, or export TMPDIR=DIR");
    if (is_shared_file_system(tmp.file_system))
      return problem("TMPDIR",
                     fmt::format("{} of {} is {}: Open MPI's session directories are slow or hang there", tmp.path,
                                 rank.host, tmp.file_system),
                     "export TMPDIR=DIR on the host's own disk or in memory");
  }
  return ok("TMPDIR", fmt::format("{} ({})", facts.front().temporary.path, facts.front().temporary.file_system));
}

Finding check_output_directory(const Facts& facts) {
  double slowest = 0;
  for (const RankFacts& rank : facts)
    if (!rank.output.error.empty())
      return problem("output_dir", fmt::format("{}: {}", name_of_rank(rank), rank.output.error),
                     "name a directory that this user may write to on every host");
  for (const RankFacts& rank : facts) {
    const DirectoryFacts& output = rank.output;
    if (!output.unseen_ranks.empty())
      return problem("output_dir",
                     fmt::format("{} ({}): {} does not see within {:g} s what rank {} wrote", output.path,
                                 output.file_system, name_of_rank(rank), kSlowSeconds, output.unseen_ranks.front()),
                     kOnlySharedOutput);
    slowest = std::max(slowest, output.seconds_until_seen);
  }
  const DirectoryFacts& first = facts.front().output;
  return ok("output_dir", fmt::format("{} ({}): writes, fsync and rename hold; seen by all ranks after {:.2f} s",
                                      first.path, first.file_system, slowest));
}

Finding check_disk(const Facts& facts) {
  for (const RankFacts& rank : facts) {
    const DirectoryFacts& output = rank.output;
    if (!output.has_room || (output.free_bytes >= 0 && output.free_bytes < kDiskRoomBytes))
      return problem("disk",
                     fmt::format("expected {} in {}, got {}", render_bytes(kDiskRoomBytes), output.path,
                                 output.free_bytes < kDiskRoomBytes
                                     ? render_bytes(output.free_bytes)
                                     : fmt::format("a refusal at {} free (a quota?)", render_bytes(output.free_bytes))),
                     "remove files, raise the quota, or name another output_dir; plumb plan prints what a run writes");
    if (output.free_files >= 0 && output.free_files < kLeastFreeFiles)
      return problem(
          "disk", fmt::format("{}: expected {} free inodes, got {}", output.path, kLeastFreeFiles, output.free_files),
          "remove files, or raise the quota of files");
  }
  const int64_t free_bytes = facts.front().output.free_bytes;
  return ok("disk", free_bytes < 0 ? "room for 1 GiB" : render_bytes(free_bytes) + " free");
}

Finding check_locks(const Facts& facts) {
  int64_t num_winners = 0;
  for (const RankFacts& rank : facts) {
    if (!rank.output.lock_error.empty())
      return problem("locks",
                     fmt::format("{} ({}): flock on {}: {}", rank.output.path, rank.output.file_system,
                                 name_of_rank(rank), rank.output.lock_error),
                     "export HDF5_USE_FILE_LOCKING=FALSE, or mount with locks (nfs: without nolock; lustre: -o flock)");
    num_winners += rank.output.has_won ? 1 : 0;
  }
  if (num_winners != 1)
    return problem("locks",
                   fmt::format("{}: a file that only one rank may create was created by {}", facts.front().output.path,
                               num_winners),
                   kOnlySharedOutput);
  return ok("locks", "one rank alone creates a file; flock holds");
}

std::vector<Finding> examine(const Facts& facts) {
  std::vector<Finding> findings;
  for (const auto check : {check_launch, check_host_names, check_environment, check_working_directory, check_versions,
                           check_instruction_sets, check_network, check_reduction, check_clocks, check_cores,
                           check_binding, check_omp_variables, check_memory, check_shared_memory, check_single_copy,
                           check_limits, check_temporary_directory})
    findings.push_back(check(facts));
  if (facts.front().output.path.empty()) return findings;
  findings.push_back(check_output_directory(facts));
  findings.push_back(check_disk(facts));
  if (findings[findings.size() - 2].is_ok) findings.push_back(check_locks(facts));  // otherwise they fail as well
  return findings;
}

}  // namespace plumb
