#include "io/records/file_window.hpp"

#include <algorithm>
#include <cstring>
#include <span>

namespace plumb {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;

}  // namespace

void FileWindow::seek(int64_t offset) {
  const int64_t held_end = offset_ + static_cast<int64_t>(end_ - begin_);
  if (offset >= offset_ && offset <= held_end) return consume(static_cast<size_t>(offset - offset_));
  offset_ = offset;
  begin_ = end_ = 0;
}

void FileWindow::consume(size_t num_bytes) {
  begin_ += num_bytes;
  offset_ += static_cast<int64_t>(num_bytes);
}

bool FileWindow::read_more() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const bool is_plain = file_.compression() == Compression::kNone;
  const size_t piece_bytes = is_plain ? std::min(kReadBytes, static_cast<size_t>(file_.size_bytes()) + 1) : kReadBytes;
  if (buffer_.size() - end_ <= piece_bytes / 2) buffer_.resize(std::max(piece_bytes, buffer_.size() * 2));
  const size_t num_read = file_.read(offset_ + static_cast<int64_t>(end_), std::span(buffer_).subspan(end_));
  end_ += num_read;
  return num_read > 0;
}

}  // namespace plumb
