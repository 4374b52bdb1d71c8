// A directory for files that a command needs only while it runs.
#pragma once

#include <string>

#include "partition/communicator.hpp"

namespace plumb {

class ScratchDirectory {
 public:
  /// Collective: one directory for all ranks, below TMPDIR or /tmp; ranks on several nodes need one that they share.
  /// `comm` must outlive it.
  explicit ScratchDirectory(const Communicator& comm);
  /// Collective, except where an exception ends the command: rank 0 removes it when no rank needs it any more.
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  const Communicator& comm_;
  std::string path_;
};

}  // namespace plumb
