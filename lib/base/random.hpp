// Counter-based random numbers: a value is a pure function of (seed, stream, counter), so neither the number of ranks
// nor a restart can change which number comes where. Source: Philox4x32-10 of Salmon et al., "Parallel random numbers:
// as easy as 1, 2, 3", SC11.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace plumb {

/// Four independent 32-bit words for a counter of 128 bits and a key of 64 bits. constexpr, so that GPU code can call
/// it.
constexpr std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, uint64_t key) {
  auto k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ k0, static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ k1, static_cast<uint32_t>(a)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return counter;
}

inline uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t counter) {
  const auto words = philox({static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                             static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                            seed);
  return uint64_t{words[0]} << 32 | words[1];
}

/// Uniform in [0, 1).
inline double random_uniform(uint64_t seed, uint64_t stream, uint64_t counter) {
  return static_cast<double>(random_bits(seed, stream, counter) >> 11) * 0x1.0p-53;
}

/// Standard normal, by Box and Muller.
inline double random_normal(uint64_t seed, uint64_t stream, uint64_t counter) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - random_uniform(seed, stream, 2 * counter)));
  return radius * std::cos(2.0 * std::numbers::pi * random_uniform(seed, stream, 2 * counter + 1));
}

/// The image of `index` under a pseudo-random permutation of [0, size): a Feistel network over the next power of four,
/// with cycle walking. Constant memory, so the order of an epoch needs no table.
inline uint64_t random_permutation(uint64_t seed, uint64_t stream, uint64_t index, uint64_t size) {
  if (size < 2) return index;
  int half_bits = 1;
  while (uint64_t{1} << (2 * half_bits) < size && half_bits < 31) ++half_bits;
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t value = index;
  do {
    uint64_t left = value >> half_bits, right = value & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t mixed = left ^ (random_bits(seed, stream, right | round << 60) & mask);
      left = right;
      right = mixed;
    }
    value = left << half_bits | right;
  } while (value >= size);
  return value;
}

}  // namespace plumb
