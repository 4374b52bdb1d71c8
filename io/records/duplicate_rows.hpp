// Finds preference rows that repeat an earlier row, across all ranks, by hashes of their texts.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/text/pair.hpp"

namespace plumb {

/// A row identified by a 128-bit hash of its texts, so that equal hashes mean equal texts.
struct RowFingerprint {
  uint64_t high = 0;
  uint64_t low = 0;
  int64_t row = 0;  // index over all source files
};

RowFingerprint fingerprint_of(const PairText& pair, int64_t row);

/// The rows that equal an earlier one, ascending.
std::vector<int64_t> find_duplicates(std::vector<RowFingerprint> prints);

}  // namespace plumb
