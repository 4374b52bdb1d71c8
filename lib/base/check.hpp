// Errors of the whole program: one type per exit code (design: 2 usage, 65 data, 70 internal, 74 input/output, 75
// transient). A message says what, where, expected, got, and a hint.
#pragma once

#include <fmt/format.h>

#include <source_location>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace plumb {

/// Exit codes of the program, the only place they are written.
enum ExitCode : int {
  kExitDone = 0,
  kExitUsage = 2,
  kExitData = 65,
  kExitInternal = 70,
  kExitInputOutput = 74,
  kExitTransient = 75,
  kExitHang = 76,
  kExitStopped = 85,
};

/// Wrong option, configuration or combination of them.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// Bad contents of a file: the message names file, row or offset, what was expected and what was found.
struct DataError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// The operating system refused to read or write.
struct InputOutputError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// A collective failed, or a peer did: the next start may have better luck.
struct CommError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// A loss or norm that is not finite.
struct NumericError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// throw_error<DataError>("{}: row {}: ...", file, row)
template <class Error, class... Args>
[[noreturn]] void throw_error(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

/// The exit code that belongs to an exception; unknown types are internal errors.
int exit_code(const std::exception& error);

/// Invariant of plumb's own code; failing is a bug, reported with the place.
void check(bool holds, std::string_view what, std::source_location where = std::source_location::current());

/// The candidate closest to `word` by edit distance, for "did you mean"; empty if none is near.
std::string nearest_name(std::string_view word, std::span<const std::string> candidates);

}  // namespace plumb
