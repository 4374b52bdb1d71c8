// main() of tests that run as one process.
#include <gtest/gtest.h>

#include "lib/base/end_process.hpp"
#include "tests/support/verdict.hpp"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const bool has_failed = RUN_ALL_TESTS() != 0;
  plumb::end_process(plumb::test::verdict(has_failed, testing::UnitTest::GetInstance()->skipped_test_count()));
}
