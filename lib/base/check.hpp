// Errors of the whole program: one type per exit code, which the error itself knows. A message says what, where, what
// was expected, what was found, and how to mend it.
#pragma once

#include <fmt/format.h>

#include <source_location>
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

/// An error that knows the exit code of a program that it ends.
class Error : public std::runtime_error {
 public:
  Error(const std::string& message, int exit_code) : std::runtime_error(message), exit_code_(exit_code) {}
  int code() const { return exit_code_; }

 private:
  int exit_code_;
};

template <ExitCode kCode>
struct ErrorWithCode : Error {
  explicit ErrorWithCode(const std::string& message) : Error(message, kCode) {}
};

/// Wrong option, configuration or combination of them.
struct UsageError : ErrorWithCode<kExitUsage> {
  using ErrorWithCode::ErrorWithCode;
};
/// Bad contents of a file: the message names file, row or offset, what was expected and what was found.
struct DataError : ErrorWithCode<kExitData> {
  using ErrorWithCode::ErrorWithCode;
};
/// The operating system refused to read or write.
struct InputOutputError : ErrorWithCode<kExitInputOutput> {
  using ErrorWithCode::ErrorWithCode;
};
/// A collective failed, or a peer did: the same command may succeed when it is started again.
struct CommError : ErrorWithCode<kExitTransient> {
  using ErrorWithCode::ErrorWithCode;
};
/// A loss or norm that is not finite.
struct NumericError : ErrorWithCode<kExitInternal> {
  using ErrorWithCode::ErrorWithCode;
};

/// throw_error<DataError>("{}: row {}: ...", file, row)
template <class ErrorType, class... Args>
[[noreturn]] void throw_error(fmt::format_string<Args...> format, Args&&... args) {
  throw ErrorType(fmt::format(format, std::forward<Args>(args)...));
}

/// The exit code of a program that this exception ends; types other than Error are internal errors.
int exit_code(const std::exception& error);

/// Invariant of plumb's own code; failing is a bug, reported with the place.
void check(bool holds, std::string_view what, std::source_location where = std::source_location::current());

}  // namespace plumb
