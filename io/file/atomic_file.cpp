#include "io/file/atomic_file.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <span>

#include "io/file/file.hpp"
#include "io/file/host_name.hpp"

namespace plumb {

static constexpr std::string_view kTemporaryMark = ".tmp-";

std::string temporary_path_of(const std::string& path) {
  return fmt::format("{}{}{}-{}", path, kTemporaryMark, host_name(), ::getpid());
}

std::optional<TemporaryName> parse_temporary_name(std::string_view name) {
  const size_t mark = name.rfind(kTemporaryMark), dash = name.rfind('-');
  const size_t host = mark + kTemporaryMark.size();
  if (mark == std::string_view::npos || dash < host) return std::nullopt;
  const std::string_view digits = name.substr(dash + 1);
  int64_t process = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), process);
  if (read.ec != std::errc() || read.ptr != digits.data() + digits.size()) return std::nullopt;
  return TemporaryName{std::string(name.substr(0, mark)), std::string(name.substr(host, dash - host)), process};
}

AtomicFile::AtomicFile(const std::string& path) : path_(path), temporary_path_(temporary_path_of(path)) {
  ::unlink(temporary_path_.c_str());
}

AtomicFile::~AtomicFile() {
  if (!is_published_) ::unlink(temporary_path_.c_str());
}

void AtomicFile::publish() {
  File::open_for_writing(temporary_path_).sync();
  rename_path(temporary_path_, path_);
  is_published_ = true;
  sync_directory(parent_path(path_));
}

void write_file_atomically(const std::string& path, std::string_view content) {
  AtomicFile atomic(path);
  File file = File::create(atomic.temporary_path());
  file.pwrite_exact(std::as_bytes(std::span(content)), 0);
  file.close();
  atomic.publish();
}

}  // namespace plumb
