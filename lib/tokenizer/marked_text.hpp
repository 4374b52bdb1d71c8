// Text that records which of its bytes came from user data, so that a spelled-out control token in a row stays ordinary
// text.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace plumb {

/// Half-open range of bytes.
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
};

/// Text with the ranges that came from user data. Control tokens are never recognized inside them.
struct MarkedText {
  std::string text;
  std::vector<ByteRange> user_ranges;  // ascending and disjoint
};

}  // namespace plumb
