#include "lib/base/check.hpp"

#include <gtest/gtest.h>

namespace plumb {
namespace {

TEST(ExitCode, BelongsToTheTypeOfTheError) {
  EXPECT_EQ(exit_code(UsageError("")), 2);
  EXPECT_EQ(exit_code(DataError("")), 65);
  EXPECT_EQ(exit_code(InputOutputError("")), 74);
  EXPECT_EQ(exit_code(CommError("")), 75);
  EXPECT_EQ(exit_code(NumericError("")), 70);
  EXPECT_EQ(exit_code(Error("", 85)), 85);
  EXPECT_EQ(exit_code(std::logic_error("")), 70);
  EXPECT_EQ(exit_code(std::bad_alloc()), 70);
}

TEST(ExitCode, IsThatOfTheDerivedTypeWhenCaughtAsItsBase) {
  try {
    throw_error<DataError>("row {}", 3);
  } catch (const std::exception& error) {
    EXPECT_EQ(exit_code(error), kExitData);
  }
}

TEST(ThrowError, FormatsTheMessage) {
  try {
    throw_error<UsageError>("{}: row {}: expected {}", "a.csv", 7, "text");
    FAIL() << "did not throw";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "a.csv: row 7: expected text");
  }
}

TEST(ThrowError, TakesBracesInArgumentsAsText) {
  try {
    throw_error<DataError>("got {}", "{x} {}");
    FAIL() << "did not throw";
  } catch (const DataError& error) {
    EXPECT_STREQ(error.what(), "got {x} {}");
  }
}

TEST(Check, PassesWhatHoldsAndNamesThePlaceOfWhatDoesNot) {
  EXPECT_NO_THROW(check(true, "fine"));
  const int line = __LINE__ + 2;
  try {
    check(false, "sizes differ");
    FAIL() << "did not throw";
  } catch (const std::logic_error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("check_test.cpp:" + std::to_string(line) + ": sizes differ"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace plumb
