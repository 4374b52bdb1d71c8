// Helpers for tests of errors: the message of the exception that a call throws.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>

namespace plumb {

inline const std::string kAccepted = "accepted";

/// The message of the exception of this type that the call throws, or kAccepted.
template <class Error, class Call>
std::string refusal_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return kAccepted;
}

/// The message of the exception of this type that the call throws; the test fails if it throws none.
template <class Error, class Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "expected an exception";
  return "";
}

inline void expect_contains(std::string_view message, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts)
    EXPECT_NE(message.find(part), std::string_view::npos) << "expected \"" << part << "\" in: " << message;
}

}  // namespace plumb
