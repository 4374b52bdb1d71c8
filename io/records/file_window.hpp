// A window over the text of a data file, which moves front to back and grows up to the size of a record.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/records/data_file.hpp"

namespace plumb {

class FileWindow {
 public:
  /// Throws InputOutputError, also if the path is not a regular file.
  explicit FileWindow(std::string path) : file_(std::move(path)) {}

  const std::string& path() const { return file_.path(); }
  const DataFile& file() const { return file_; }
  /// Offset in the text of the first byte of bytes().
  int64_t offset() const { return offset_; }
  /// Valid until the next call that is not const.
  std::string_view bytes() const { return {buffer_.data() + begin_, end_ - begin_}; }

  void seek(int64_t offset);
  /// Drops the first `num_bytes` of bytes().
  void consume(size_t num_bytes);
  /// Appends to bytes(), keeping its contents. False at the end of the text.
  bool read_more();

 private:
  DataFile file_;
  int64_t offset_ = 0;
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace plumb
