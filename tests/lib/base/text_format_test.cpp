#include "lib/base/text_format.hpp"

#include <gtest/gtest.h>

namespace plumb {
namespace {

TEST(RenderBytes, HasThreeDigitsOfAUnitThatFits) {
  EXPECT_EQ(render_bytes(0), "0.00 MiB");
  EXPECT_EQ(render_bytes(int64_t{3} << 19), "1.50 MiB");
  EXPECT_EQ(render_bytes(int64_t{10} << 20), "10 MiB");
  EXPECT_EQ(render_bytes(int64_t{3} << 29), "1.50 GiB");
  EXPECT_EQ(render_bytes(int64_t{139} << 30), "139 GiB");
}

TEST(RenderDuration, HasHoursOnlyWhereThereAreAny) {
  EXPECT_EQ(render_duration(-1), "0:00");
  EXPECT_EQ(render_duration(59.6), "1:00");
  EXPECT_EQ(render_duration(3599), "59:59");
  EXPECT_EQ(render_duration(3723), "1:02:03");
}

TEST(ListSome, CountsWhatItDoesNotName) {
  EXPECT_EQ(list_some({}), "");
  EXPECT_EQ(list_some({"a"}), "a");
  EXPECT_EQ(list_some({"a", "b", "c", "d", "e"}), "a, b, c, d, e");
  EXPECT_EQ(list_some({"a", "b", "c", "d", "e", "f", "g"}), "a, b, c, d, e and 2 more");
}

TEST(DidYouMean, NamesTheNearestOrNothing) {
  const std::vector<std::string> names = {"learning_rate", "seed"};
  EXPECT_EQ(did_you_mean("sed", names), "; did you mean seed?");
  EXPECT_EQ(did_you_mean("sed", names, "--"), "; did you mean --seed?");
  EXPECT_EQ(did_you_mean("sed", names, "[", "]"), "; did you mean [seed]?");
  EXPECT_EQ(did_you_mean("warmup_ratio", names, "[", "]"), "");
}

TEST(NearestName, IsTheOneOfFewestEdits) {
  const std::vector<std::string> names = {"learning_rate", "max_length", "max_steps", "seed"};
  EXPECT_EQ(nearest_name("learing_rate", names), "learning_rate");
  EXPECT_EQ(nearest_name("max_lenght", names), "max_length");
  EXPECT_EQ(nearest_name("max_step", names), "max_steps");
  EXPECT_EQ(nearest_name("seed", names), "seed");
  EXPECT_EQ(nearest_name("sed", names), "seed");
}

TEST(NearestName, IsEmptyWhenNoneIsNear) {
  const std::vector<std::string> names = {"learning_rate", "seed"};
  EXPECT_EQ(nearest_name("warmup_ratio", names), "");
  EXPECT_EQ(nearest_name("x", std::vector<std::string>{}), "");
  EXPECT_EQ(nearest_name("abcd", std::vector<std::string>{"wxyz"}), "");
}

TEST(NearestName, PrefersTheFirstOfEquallyNear) {
  EXPECT_EQ(nearest_name("bat", std::vector<std::string>{"cat", "rat"}), "cat");
}

}  // namespace
}  // namespace plumb
