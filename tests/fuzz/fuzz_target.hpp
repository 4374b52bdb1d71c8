// The interface of all fuzz targets. A target takes untrusted bytes and returns whether the parser accepted them. It
// aborts if a parsed value violates an invariant. A refusal is one of the documented errors: any other exception leaves
// the target and ends the fuzzer, or the test that replays the seeds.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "lib/base/check.hpp"

namespace plumb::fuzz {

/// Defined by each target: returns whether the input was accepted.
bool accepts(std::string_view input);

/// Returns true if `parse` succeeds, false if it throws DataError or UsageError with a message of reasonable length.
template <class Parse>
bool is_accepted(Parse parse) {
  constexpr size_t kMaxMessageBytes = 64 << 10;
  std::string message;
  try {
    parse();
    return true;
  } catch (const DataError& error) {
    message = error.what();
  } catch (const UsageError& error) {
    message = error.what();
  }
  if (!message.empty() && message.size() <= kMaxMessageBytes) return false;
  std::fprintf(stderr, "fuzz: a message of %zu bytes\n", message.size());
  std::abort();
}

/// Aborts if an invariant of a parsed value does not hold.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: broken: %s\n", what);
  std::abort();
}

/// Removes the first byte of `input` and returns it modulo `count`; 0 if the input is empty.
inline size_t take_choice(std::string_view& input, size_t count) {
  if (input.empty()) return 0;
  const size_t choice = static_cast<unsigned char>(input.front()) % count;
  input.remove_prefix(1);
  return choice;
}

/// Removes and returns the input up to the first byte 0x1e (record separator), which is removed too.
inline std::string_view take_part(std::string_view& input) {
  const size_t end = std::min(input.find('\x1e'), input.size());
  const std::string_view part = input.substr(0, end);
  input.remove_prefix(std::min(end + 1, input.size()));
  return part;
}

}  // namespace plumb::fuzz
