// Disk space that is taken before it is needed, so that a disk that others fill meanwhile still has it for a later
// write: a file without a name, whose space the kernel frees when the process ends, however it ends.
// Source: Linux open(2), O_TMPFILE; fallocate(2).
#pragma once

#include <cstdint>
#include <string>

namespace plumb {

class ReservedRoom {
 public:
  /// Takes nothing yet. directory: must exist.
  ReservedRoom(std::string directory, int64_t num_bytes) : directory_(std::move(directory)), num_bytes_(num_bytes) {}
  ~ReservedRoom() { give_back(); }
  ReservedRoom(const ReservedRoom&) = delete;
  ReservedRoom& operator=(const ReservedRoom&) = delete;

  /// Takes the space unless it is held. Returns whether it is there; on a file system that cannot reserve, whether
  /// that much is free now.
  bool take();
  /// Frees the space, right before it is written to.
  void give_back();

  int64_t num_bytes() const { return num_bytes_; }

 private:
  std::string directory_;
  int64_t num_bytes_;
  int descriptor_ = -1;
};

/// Bytes that this user can still write to the disk of a directory; -1: unknown. Quotas do not show in it.
int64_t free_disk_bytes(const std::string& directory);

}  // namespace plumb
