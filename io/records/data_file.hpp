// The text of a data file by offset, whether the file is plain or compressed. A compressed file is decompressed front
// to back, so reading on is cheap and going back starts over; every rank that reads a part decompresses what is before
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/records/decompressor.hpp"

namespace plumb {

class DataFile {
 public:
  /// Throws as File::open_for_reading(). The first bytes say whether it is compressed.
  explicit DataFile(std::string path);

  const std::string& path() const { return path_; }
  /// The size of the file, compressed or not.
  int64_t size_bytes() const { return size_bytes_; }
  Compression compression() const { return compression_; }

  /// Reads text from `offset` on into `out`, which is not empty; returns how much, 0 at the end. Throws
  /// InputOutputError, and DataError for a compressed file that is truncated, damaged, or all but empty of information.
  size_t read(int64_t offset, std::span<char> out);

 private:
  size_t read_bytes(int64_t offset, std::span<char> out) const;
  size_t decompress(std::span<char> out);
  void rewind();
  void check_ratio() const;

  /// Closes itself.
  class Descriptor {
   public:
    explicit Descriptor(int value) : value_(value) {}
    ~Descriptor();
    Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    Descriptor& operator=(Descriptor&&) = delete;
    int value() const { return value_; }

   private:
    int value_;
  };

  std::string path_;
  int64_t size_bytes_;
  Descriptor descriptor_;
  Compression compression_ = Compression::kNone;
  std::unique_ptr<Decompressor> decompressor_;
  std::vector<char> input_;  // bytes of the file
  std::span<const char> unread_;
  int64_t num_read_ = 0;     // of the file, into input_
  int64_t num_written_ = 0;  // of the text
};

}  // namespace plumb
