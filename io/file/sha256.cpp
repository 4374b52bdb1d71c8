#include "io/file/sha256.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "io/file/file.hpp"

namespace plumb {
namespace {

// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
constexpr std::array<uint32_t, 64> kRoundConstants = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t big_endian_word(const std::byte* bytes) {
  uint32_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return __builtin_bswap32(word);
}

}  // namespace

void Sha256::add_block(const std::byte* block) {
  std::array<uint32_t, 64> w;
  for (size_t i = 0; i < 16; ++i) w[i] = big_endian_word(block + 4 * i);
  for (size_t i = 16; i < 64; ++i) {
    const uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
    const uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state_;
  for (size_t i = 0; i < 64; ++i) {
    const uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
    const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kRoundConstants[i] + w[i];
    const uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
    const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  const std::array<uint32_t, 8> sums = {a, b, c, d, e, f, g, h};
  for (size_t i = 0; i < 8; ++i) state_[i] += sums[i];
}

void Sha256::update(std::span<const std::byte> bytes) {
  num_bytes_ += bytes.size();
  while (!bytes.empty()) {
    if (num_pending_bytes_ == 0 && bytes.size() >= pending_.size()) {
      add_block(bytes.data());
      bytes = bytes.subspan(pending_.size());
      continue;
    }
    const size_t num_taken = std::min(bytes.size(), pending_.size() - num_pending_bytes_);
    std::memcpy(pending_.data() + num_pending_bytes_, bytes.data(), num_taken);
    num_pending_bytes_ += num_taken;
    bytes = bytes.subspan(num_taken);
    if (num_pending_bytes_ < pending_.size()) return;
    add_block(pending_.data());
    num_pending_bytes_ = 0;
  }
}

std::string Sha256::hex_digest() {
  const uint64_t num_bits = num_bytes_ * 8;
  // a one bit, then zeros up to the 8 bytes of the length at the end of a block
  std::array<std::byte, 72> padding{};
  padding[0] = std::byte{0x80};
  const size_t num_zeros = (119 - num_pending_bytes_) % 64;
  for (size_t i = 0; i < 8; ++i) padding[1 + num_zeros + i] = static_cast<std::byte>(num_bits >> (56 - 8 * i));
  update(std::span(padding).first(1 + num_zeros + 8));
  std::string digits;
  for (const uint32_t word : state_) digits += fmt::format("{:08x}", word);
  return digits;
}

std::string sha256_of_file(const std::string& path) {
  constexpr int64_t kPieceBytes = 1 << 20;
  const File file = File::open_for_reading(path);
  const int64_t size_bytes = file.size_bytes();
  std::vector<std::byte> buffer(std::min(size_bytes, kPieceBytes));
  Sha256 sum;
  for (int64_t done = 0; done < size_bytes;) {
    const auto piece = std::span(buffer).first(std::min(size_bytes - done, kPieceBytes));
    file.pread_exact(piece, done);
    sum.update(piece);
    done += static_cast<int64_t>(piece.size());
  }
  return sum.hex_digest();
}

}  // namespace plumb
