#include "io/file/appended_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <exception>

#include "io/file/file.hpp"
#include "lib/base/log.hpp"

namespace plumb {

AppendedFile::AppendedFile(const std::string& path)
    : path_(path), descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) throw_errno(path_, "open");
}

AppendedFile::~AppendedFile() {
  try {
    if (!write_pending()) log_warning("{}: the disk is full: its last {} bytes are lost", path_, pending_.size());
  } catch (const std::exception& error) {
    log_warning("{}", error.what());
  }
  ::close(descriptor_);
}

void AppendedFile::append(std::string_view bytes) {
  pending_ += bytes;
  if (write_pending() || has_warned_) return;
  log_warning("{}: the disk is full: its next lines are written once there is room; the run continues", path_);
  has_warned_ = true;
}

void AppendedFile::sync() {
  if (!write_pending()) {
    errno = ENOSPC;
    throw_errno(path_, "write");
  }
  if (::fsync(descriptor_) != 0 && errno != EINVAL) throw_errno(path_, "fsync");
}

bool AppendedFile::write_pending() {
  while (!pending_.empty()) {
    const ssize_t written = ::write(descriptor_, pending_.data(), pending_.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && (errno == ENOSPC || errno == EDQUOT)) return false;
    if (written < 0) throw_errno(path_, "write");
    pending_.erase(0, static_cast<size_t>(written));  // the rest of a line that was cut off follows later
  }
  return true;
}

}  // namespace plumb
