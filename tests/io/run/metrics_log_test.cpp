// metrics.jsonl of a resumed run: no repeated and no incomplete lines, and events that match.
#include "io/run/metrics_log.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

std::vector<std::string> event_files(const TemporaryDirectory& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path()))
    if (entry.path().filename().string().starts_with("events.")) names.push_back(entry.path().filename().string());
  return names;
}

TEST(MetricsLog, ResumesAfterAStep) {
  const TemporaryDirectory directory;
  const std::string path = directory / "metrics.jsonl";
  {
    MetricsLog log(path);
    for (const int step : {1, 2, 3}) log.write({{"step", step}, {"loss", 0.1 * step}});
    log.sync();
  }
  const std::string whole = directory.read("metrics.jsonl");
  directory.write("metrics.jsonl", whole + "{\"step\":2,\"lo");
  const std::string events = directory.read(event_files(directory).at(0));
  {
    MetricsLog log(path, 2);
    log.write({{"step", 3}, {"loss", 0.25}});
  }
  const std::string line_1_and_2 = whole.substr(0, whole.find("{\"step\":3"));
  EXPECT_EQ(directory.read("metrics.jsonl"), line_1_and_2 + "{\"step\":3,\"loss\":0.25}\n");
  ASSERT_EQ(event_files(directory).size(), 1u);
  EXPECT_EQ(directory.read(event_files(directory).at(0)).size(), events.size());  // three lines again
}

TEST(MetricsLog, StartsWithoutAFile) {
  const TemporaryDirectory directory;
  MetricsLog log(directory / "metrics.jsonl", 7);
  log.write({{"step", 8}});
  EXPECT_EQ(directory.read("metrics.jsonl"), "{\"step\":8}\n");
}

}  // namespace
}  // namespace plumb
