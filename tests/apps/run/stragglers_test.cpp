#include "apps/run/stragglers.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace plumb {
namespace {

TEST(Stragglers, ARankThatIsSlowFor20StepsIsNamedOnce) {
  Stragglers stragglers;
  for (int step = 1; step <= 60; ++step) {
    const std::string line = stragglers.add_step({100, 102, 150, 101});
    EXPECT_EQ(!line.empty(), step == 20) << step;
    if (step != 20) continue;
    EXPECT_NE(line.find("rank 2 (1.5 times"), std::string::npos) << line;
    EXPECT_EQ(line.find("rank 1"), std::string::npos) << line;
  }
}

TEST(Stragglers, AFastStepEndsTheStreak) {
  Stragglers stragglers;
  for (int step = 1; step <= 100; ++step) EXPECT_EQ(stragglers.add_step({100, step % 20 == 0 ? 100 : 200}), "");
  std::string lines;
  for (int step = 0; step < 20; ++step) lines += stragglers.add_step({100, 200});
  EXPECT_NE(lines.find("rank 1"), std::string::npos);
}

TEST(Stragglers, ARankWithinThreeQuartersIsNotSlow) {
  Stragglers stragglers;
  for (int step = 0; step < 100; ++step) EXPECT_EQ(stragglers.add_step({100, 133}), "");
}

TEST(Stragglers, RanksWithoutRowsAreIgnored) {
  Stragglers stragglers;
  for (int step = 0; step < 100; ++step) EXPECT_EQ(stragglers.add_step({0, 100, 0}), "");
  for (int step = 0; step < 100; ++step) EXPECT_EQ(stragglers.add_step({0, 0}), "");
}

}  // namespace
}  // namespace plumb
