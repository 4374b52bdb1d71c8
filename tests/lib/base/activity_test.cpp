#include "lib/base/activity.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

// read once, at the first fault point
const int kIsSet = ::setenv("PLUMB_FAULT", "save:3:0:error;second:5:0:throw;save:3:1:kill", 1);

TEST(Phase, IsDescribedWhileItLasts) {
  EXPECT_EQ(describe_phases(), "");
  {
    Phase outer("forward", 2);
    EXPECT_EQ(describe_phases(), "forward of step 2");
    outer.next("backward");
    EXPECT_EQ(describe_phases(), "backward of step 2");
    {
      const Phase inner("save", 1);
      EXPECT_EQ(describe_phases(), "save of step 1");
    }
    EXPECT_EQ(describe_phases(), "backward of step 2");
    std::thread([] {
      const Phase elsewhere("read", 7);
      EXPECT_EQ(describe_phases(), "backward of step 2, read of step 7");
    }).join();
    EXPECT_EQ(describe_phases(), "backward of step 2");
  }
  EXPECT_EQ(describe_phases(), "");
}

TEST(Phase, IsAFaultPointOfThisRank) {
  ASSERT_EQ(kIsSet, 0);
  EXPECT_NO_THROW(Phase("save", 2));
  EXPECT_THROW(Phase("save", 3), InputOutputError);
  EXPECT_EQ(describe_phases(), "");
  Phase phase("first", 5);
  EXPECT_THROW(phase.next("second"), std::runtime_error);
  EXPECT_EQ(describe_phases(), "first of step 5") << "the next phase has not begun";
}

TEST(WatchedOperation, TheInnermostIsUnderWayAndAllAreRemembered) {
  const uint64_t before = progress().num_operations.load();
  {
    const WatchedOperation outer("all-gather", OperationKind::kCollective, 4, 100);
    {
      const WatchedOperation inner("barrier");
      ASSERT_EQ(operations_under_way().size(), 1u);
      EXPECT_STREQ(operations_under_way()[0].operation, "barrier");
    }
    ASSERT_EQ(operations_under_way().size(), 1u);
    EXPECT_STREQ(operations_under_way()[0].operation, "all-gather");
    EXPECT_EQ(operations_under_way()[0].unit, 4);
    EXPECT_EQ(operations_under_way()[0].bytes, 100);
  }
  EXPECT_TRUE(operations_under_way().empty());
  EXPECT_EQ(progress().num_operations.load(), before + 2);
  const std::vector<Operation> last = last_operations();
  ASSERT_GE(last.size(), 2u);
  EXPECT_STREQ(last.back().operation, "all-gather");
  EXPECT_GT(last.back().duration_ns, 0);
}

TEST(WatchedOperation, OfMoreThreadsThanThereAreSlotsOnlyTheCountIsKept) {
  const uint64_t before = progress().num_operations.load();
  std::vector<std::thread> threads;
  for (int i = 0; i < 40; ++i) threads.emplace_back([] { const WatchedOperation read("read", OperationKind::kFile); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(progress().num_operations.load(), before + 40);
}

}  // namespace
}  // namespace plumb
