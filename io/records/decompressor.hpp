// Decompresses gzip and zstd from bytes that arrive in pieces, in bounded memory. A file may hold several gzip members
// or zstd frames, whose contents follow each other; gzip may be followed by zero bytes, as tape blocks leave them.
// Source: RFC 1952 (gzip), RFC 8878 (zstd).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace plumb {

enum class Compression : int64_t { kNone = 0, kGzip = 1, kZstd = 2 };

/// "gzip", "zstd"; "" for none.
std::string_view name_of(Compression compression);

/// By the first bytes of a file.
Compression find_compression(std::string_view head);

class Decompressor {
 public:
  struct Progress {
    size_t num_read = 0;
    size_t num_written = 0;
  };

  virtual ~Decompressor() = default;

  /// Reads from `in` and writes to `out` as much as one call can. Throws DataError, beginning with path and offset, for
  /// bytes that are not of the format or fail its checksum.
  virtual Progress advance(std::span<const char> in, std::span<char> out) = 0;

  /// Whether a file may end after the bytes read so far, all of which have been written.
  virtual bool is_at_end() const = 0;
};

/// `path` is for messages; `compression` is not kNone.
std::unique_ptr<Decompressor> make_decompressor(Compression compression, const std::string& path);

}  // namespace plumb
