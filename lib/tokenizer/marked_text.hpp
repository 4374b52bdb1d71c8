// Text that knows which of its bytes came from a user's data.
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

/// Text with the parts that came from a user's data: inside them nothing is ever read as a control token.
struct MarkedText {
  std::string text;
  std::vector<ByteRange> user_ranges;  // ascending, disjoint
};

}  // namespace plumb
