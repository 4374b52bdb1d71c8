#include "io/records/data_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

constexpr size_t kInputBytes = size_t{256} << 10;
constexpr size_t kSkipBytes = size_t{256} << 10;

// gzip cannot exceed 1032; zstd can say "gigabytes of zeros" in kilobytes
constexpr int64_t kMaxRatio = 5'000;
constexpr int64_t kAnyRatioBytes = int64_t{1} << 30;

}  // namespace

DataFile::Descriptor::~Descriptor() {
  if (value_ >= 0) ::close(value_);
}

DataFile::DataFile(std::string path)
    : path_(std::move(path)),
      size_bytes_(File::open_for_reading(path_).size_bytes()),  // which refuses what holds no rows
      descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (descriptor_.value() < 0) throw_errno(path_, "open");
  std::array<char, 4> head{};
  compression_ = find_compression({head.data(), read_bytes(0, head)});
  if (compression_ != Compression::kNone) rewind();
}

size_t DataFile::read(int64_t offset, std::span<char> out) {
  if (compression_ == Compression::kNone) return read_bytes(offset, out);
  if (offset < num_written_) rewind();
  std::vector<char> skipped;
  while (num_written_ < offset) {
    skipped.resize(static_cast<size_t>(std::min<int64_t>(kSkipBytes, offset - num_written_)));
    if (decompress(skipped) == 0) return 0;
  }
  return decompress(out);
}

size_t DataFile::read_bytes(int64_t offset, std::span<char> out) const {
  for (;;) {
    const ssize_t num_read = ::pread(descriptor_.value(), out.data(), out.size(), static_cast<off_t>(offset));
    if (num_read >= 0) return static_cast<size_t>(num_read);
    if (errno != EINTR) throw_errno(path_, "read");
  }
}

size_t DataFile::decompress(std::span<char> out) {
  for (;;) {
    if (unread_.empty()) {
      input_.resize(kInputBytes);
      unread_ = std::span(input_).first(read_bytes(num_read_, input_));
      num_read_ += std::ssize(unread_);
      if (unread_.empty() && decompressor_->is_at_end()) return 0;
    }
    const Decompressor::Progress progress = decompressor_->advance(unread_, out);
    unread_ = unread_.subspan(progress.num_read);
    num_written_ += static_cast<int64_t>(progress.num_written);
    check_ratio();
    if (progress.num_written > 0) return progress.num_written;
    if (progress.num_read > 0) continue;
    throw_error<DataError>(
        "{}: expected more {} data after its {} bytes, got the end of the file; was it downloaded "
        "completely?",
        path_, name_of(compression_), size_bytes_);
  }
}

void DataFile::rewind() {
  decompressor_ = make_decompressor(compression_, path_);
  unread_ = {};
  num_read_ = num_written_ = 0;
}

void DataFile::check_ratio() const {
  const int64_t num_used = num_read_ - std::ssize(unread_);
  if (num_written_ < kAnyRatioBytes || num_written_ / kMaxRatio < num_used) return;
  throw_error<DataError>(
      "{}: expected text that {} shrinks at most {} times, got {} bytes from the first {}; unpack it yourself if it is "
      "what you mean to train on",
      path_, name_of(compression_), kMaxRatio, num_written_, num_used);
}

}  // namespace plumb
