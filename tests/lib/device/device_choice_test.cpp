// The GPU of each rank, and what is refused: shared GPUs, ranks that see none, and builds without CUDA.
#include "lib/device/device_choice.hpp"

#include <gtest/gtest.h>

#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

Gpu gpu(const std::string& uuid) { return {"NVIDIA H100", uuid, int64_t{80} << 30}; }

VisibleGpus visible(const std::vector<std::string>& uuids) {
  VisibleGpus all{.is_in_build = true, .driver = "13.0"};
  for (const std::string& uuid : uuids) all.gpus.push_back(gpu(uuid));
  return all;
}

/// Ranks of each host in turn; every rank sees all of its host's GPUs.
std::vector<RankOnHost> ranks_of(const std::vector<int>& ranks_per_host, int gpus_per_host) {
  std::vector<RankOnHost> ranks;
  for (size_t host = 0; host < ranks_per_host.size(); ++host) {
    std::vector<std::string> uuids;
    for (int i = 0; i < gpus_per_host; ++i) uuids.push_back("GPU-" + std::to_string(host) + std::to_string(i));
    for (int local = 0; local < ranks_per_host[host]; ++local)
      ranks.push_back({"n" + std::to_string(host), local, visible(uuids)});
  }
  return ranks;
}

/// "" where the ranks are accepted.
std::string refusal(const std::vector<RankOnHost>& ranks, bool may_share = false) {
  try {
    choose_gpus(ranks, may_share);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(DeviceChoice, FollowsThePlaceOnTheHost) {
  EXPECT_EQ(choose_gpus(ranks_of({4, 4}, 4), false), (std::vector<int>{0, 1, 2, 3, 0, 1, 2, 3}));
  EXPECT_EQ(choose_gpus(ranks_of({3, 2}, 4), false), (std::vector<int>{0, 1, 2, 0, 1}));
  EXPECT_EQ(choose_gpus(ranks_of({3}, 2), true), (std::vector<int>{0, 1, 0}));
  EXPECT_EQ(choose_gpus({}, false), std::vector<int>());
}

TEST(DeviceChoice, RefusesTwoRanksOnOneGpu) {
  EXPECT_EQ(refusal(ranks_of({2, 3}, 2))
                .find("--device cuda: expected a GPU for each rank, ranks 2 and 4 on n1 share "
                      "GPU-10 (NVIDIA H100); "),
            0u);
  EXPECT_EQ(refusal(ranks_of({2, 3}, 2), /*may_share=*/true), "");
  // a cgroup shows each rank one GPU, number 0: the same number is another GPU, unless it has the same UUID
  std::vector<RankOnHost> hidden = {{"n0", 0, visible({"GPU-a"})}, {"n0", 1, visible({"GPU-b"})}};
  EXPECT_EQ(choose_gpus(hidden, false), (std::vector<int>{0, 0}));
  EXPECT_NE(describe_hidden_gpus(hidden).find("each rank on n0 sees its own GPU only"), std::string::npos);
  hidden[1].visible = visible({"GPU-a"});
  EXPECT_NE(refusal(hidden), "");
  EXPECT_EQ(describe_hidden_gpus(hidden), "");
  hidden[1].host = "n1";  // UUIDs of virtual machines may repeat
  EXPECT_EQ(refusal(hidden), "");
}

TEST(DeviceChoice, NamesTheRankThatSeesNone) {
  std::vector<RankOnHost> ranks = ranks_of({1, 1}, 1);
  ranks[1].visible = {.is_in_build = true, .error = "no driver of NVIDIA is loaded"};
  const std::string message = message_of<InputOutputError>([&] { choose_gpus(ranks, false); });
  EXPECT_EQ(message.find("--device cuda: expected a GPU for rank 1 on n1, got none: no driver of NVIDIA is loaded; "),
            0u)
      << message;
  ranks[1].visible = {};
  EXPECT_NE(refusal(ranks).find("rank 1 on n1 is a program without CUDA; ./dev build gpu"), std::string::npos);
  EXPECT_EQ(describe_hidden_gpus(ranks_of({8, 8}, 8)), "");
}

TEST(DeviceChoice, RefusesWhatThisBuildCannotDo) {
  check_device(DeviceOption::kAuto);
  check_device(DeviceOption::kCpu);
  const std::string message = message_of<UsageError>([] { check_device(DeviceOption::kCuda); });
  EXPECT_NE(message.find("--device cuda: expected "), std::string::npos);
  if (is_gpu_build()) return;
  EXPECT_NE(message.find("./dev build gpu"), std::string::npos);
  EXPECT_FALSE(find_gpus().is_in_build);
  EXPECT_NE(find_gpus().error, "");
}

}  // namespace
}  // namespace plumb
