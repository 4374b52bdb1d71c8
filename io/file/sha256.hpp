// SHA-256 of bytes that arrive piece by piece: identifies the contents of a file, in a form that `sha256sum` also
// checks. Source: FIPS 180-4.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace plumb {

class Sha256 {
 public:
  void update(std::span<const std::byte> bytes);
  /// 64 hexadecimal digits. Ends the sum: nothing may be added after it.
  std::string hex_digest();

 private:
  void add_block(const std::byte* block);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> pending_{};
  size_t num_pending_bytes_ = 0;
  uint64_t num_bytes_ = 0;
};

/// Reads the file in pieces. Throws InputOutputError.
std::string sha256_of_file(const std::string& path);

}  // namespace plumb
