// The exit code of a test program. A program that skipped a test has not passed: ctest shows it as "Skipped". A test
// that needs reference records may be skipped only if there are none; if they are present, a skip is a failure.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "tests/support/reference_directory.hpp"

namespace plumb::test {

inline constexpr int kPassed = 0, kFailed = 1;
inline constexpr int kSkipped = 77;  // the SKIP_RETURN_CODE of every ctest entry, see tests/CMakeLists.txt

/// num_skipped: number of skipped tests. ctest sets PLUMB_IS_REFERENCE_TEST for tests that are declared with REFERENCE.
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
