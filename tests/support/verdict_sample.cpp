// A test program for verdict_test.cpp: each of its tests reads one reference record, passes, skips or fails.
#include <gtest/gtest.h>

#include "tests/support/reference.hpp"

TEST(VerdictSample, ReadsARecord) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  EXPECT_EQ(plumb::test::reference_text("record.txt"), "recorded");
}

TEST(VerdictSample, Passes) {}

TEST(VerdictSample, Skips) { GTEST_SKIP() << "this machine cannot"; }

TEST(VerdictSample, Fails) { ADD_FAILURE() << "as it must"; }
