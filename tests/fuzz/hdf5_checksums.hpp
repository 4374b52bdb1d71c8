// HDF5 metadata with checksums that hold: where a file that the library wrote has them, and how to set them right after
// bytes were changed. Source: the HDF5 file format specification 3.0; Bob Jenkins's lookup3, whose hashlittle it is.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace plumb::fuzz {

inline uint32_t lookup3(std::string_view bytes) {
  uint32_t a = 0xdeadbeef + static_cast<uint32_t>(bytes.size()), b = a, c = a;
  const auto word = [&](size_t at) {
    uint32_t value = 0;
    for (size_t i = 0; i < 4 && at + i < bytes.size(); ++i)
      value |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
    return value;
  };
  const auto step = [](uint32_t& x, uint32_t y, uint32_t z, int bits) { x = (x ^ y) - std::rotl(z, bits); };
  while (bytes.size() > 12) {
    a += word(0), b += word(4), c += word(8);
    a -= c, a ^= std::rotl(c, 4), c += b;
    b -= a, b ^= std::rotl(a, 6), a += c;
    c -= b, c ^= std::rotl(b, 8), b += a;
    a -= c, a ^= std::rotl(c, 16), c += b;
    b -= a, b ^= std::rotl(a, 19), a += c;
    c -= b, c ^= std::rotl(b, 4), b += a;
    bytes.remove_prefix(12);
  }
  if (bytes.empty()) return c;
  a += word(0), b += word(4), c += word(8);
  step(c, b, b, 14), step(a, c, c, 11), step(b, a, a, 25), step(c, b, b, 16);
  step(a, c, c, 4), step(b, a, a, 14), step(c, b, b, 24);
  return c;
}

/// Bytes [begin, end), behind which their checksum stands.
struct ChecksummedBlock {
  size_t begin, end;
};

/// The blocks of metadata of an intact file, found by their signatures and by where a checksum fits.
inline std::vector<ChecksummedBlock> find_checksummed_blocks(std::string_view file) {
  constexpr size_t kMaxBlockBytes = 4096;
  std::vector<ChecksummedBlock> blocks;
  for (size_t begin = 0; begin + 8 <= file.size(); ++begin) {
    const std::string_view mark = file.substr(begin, 4);
    const bool is_block = mark == "OHDR" || mark == "OCHK" || mark == "EAHD" || mark == "EAIB" || mark == "EASB" ||
                          mark == "EADB" || mark == "FRHP" || mark == "FHDB" || mark == "BTHD" || mark == "\x89HDF";
    for (size_t end = begin + 4; is_block && end + 4 <= file.size() && end - begin <= kMaxBlockBytes; ++end) {
      uint32_t stored = 0;
      std::memcpy(&stored, file.data() + end, sizeof stored);
      if (stored != lookup3(file.substr(begin, end - begin))) continue;
      blocks.push_back({begin, end});
      break;
    }
  }
  return blocks;
}

inline void set_checksums(std::string& file, const std::vector<ChecksummedBlock>& blocks) {
  for (const ChecksummedBlock& block : blocks) {
    const uint32_t sum = lookup3(std::string_view(file).substr(block.begin, block.end - block.begin));
    std::memcpy(file.data() + block.end, &sum, sizeof sum);
  }
}

}  // namespace plumb::fuzz
