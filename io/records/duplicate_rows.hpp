// Which preference rows say what a row before them said, over all ranks: by hashes of their texts.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/text/pair.hpp"

namespace plumb {

/// A row by the hash of its texts, 128 bits, so that equal ones mean equal texts.
struct RowFingerprint {
  uint64_t high = 0;
  uint64_t low = 0;
  int64_t row = 0;  // of all source files
};

RowFingerprint print_of(const PairText& pair, int64_t row);

/// The rows that an earlier one is equal to, ascending.
std::vector<int64_t> find_duplicates(std::vector<RowFingerprint> prints);

std::string to_bytes(std::span<const RowFingerprint> prints);
/// Adds what to_bytes() wrote.
void add_from_bytes(const std::string& bytes, std::vector<RowFingerprint>& prints);

}  // namespace plumb
