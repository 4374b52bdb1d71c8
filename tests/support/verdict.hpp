// The exit code of a test program. A program that skipped a test does not count as passed: ctest shows it as "Skipped".
// And a test of reference records may skip only where there are none: with records, a skip is a failure.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "tests/support/reference_directory.hpp"

namespace plumb::test {

inline constexpr int kPassed = 0, kFailed = 1;
inline constexpr int kSkipped = 77;  // the SKIP_RETURN_CODE of every ctest entry, see tests/CMakeLists.txt

/// ctest sets PLUMB_IS_REFERENCE_TEST for the tests that are declared with REFERENCE.
inline int verdict(bool has_failed, int num_skipped) {
  if (has_failed) return kFailed;
  if (num_skipped == 0) return kPassed;
  if (std::getenv("PLUMB_IS_REFERENCE_TEST") == nullptr || !expects_reference_records()) return kSkipped;
  std::fprintf(
      stderr,
      "%d test(s) skipped, but reference records are expected in %s; set PLUMB_REFERENCE to their folder, or to "
      "nothing to run without them\n",
      num_skipped, reference_directory().c_str());
  return kFailed;
}

}  // namespace plumb::test
