// The logistic function and its logarithm, without overflow or cancellation for arguments of any size.
#pragma once

#include <algorithm>
#include <cmath>

namespace plumb {

inline double sigmoid(double x) {
  const double e = std::exp(-std::abs(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

inline double log_sigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }

}  // namespace plumb
