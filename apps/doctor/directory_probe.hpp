// Tries on a directory what plumb does there: files that appear complete or not at all, seen by all ranks; a file that
// one rank alone creates; the locks of HDF5; room. Source: POSIX open(2), rename(2), fsync(2); flock(2).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "apps/doctor/facts.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// A directory below output_dir for one process, and those above that did not exist; removed at the end.
class ProbeDirectory {
 public:
  /// Throws InputOutputError.
  explicit ProbeDirectory(const std::string& output_dir);
  ~ProbeDirectory();
  ProbeDirectory(const ProbeDirectory&) = delete;
  ProbeDirectory& operator=(const ProbeDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::vector<std::filesystem::path> created_;
};

/// Collective: what this rank sees. Leaves nothing behind.
DirectoryFacts probe_directory(const Communicator& comm, const std::string& path);

}  // namespace plumb
