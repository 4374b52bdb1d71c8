// A directory for files that a command needs only while it runs.
#pragma once

#include <string>

#include "partition/communicator.hpp"

namespace plumb {

class ScratchDirectory {
 public:
  /// Collective: one directory for all ranks, below TMPDIR or /tmp; ranks on several nodes need one that they share.
  explicit ScratchDirectory(const Communicator& comm);
  /// Rank 0 removes it.
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool is_owner_;
};

}  // namespace plumb
