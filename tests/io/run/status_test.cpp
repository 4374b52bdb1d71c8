#include "io/run/status.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb::test {
namespace {

class RunStatusTest : public testing::Test {
 protected:
  RunStatus now() const { return read_run_status(directory_.path()).value(); }
  /// Waits until `holds`, or until the test times out.
  static void wait_until(const std::function<bool()>& holds) {
    while (!holds()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }

  const TemporaryDirectory directory_;
};

TEST_F(RunStatusTest, IsWrittenAtStartPeriodicallyAndAtTheEnd) {
  EXPECT_FALSE(read_run_status(directory_.path()).has_value());
  {
    const double before = wall_seconds();
    RunStatusWriter writer(directory_.path(), {.command = "sft", .num_ranks = 3, .process = this_process()}, 0.02);
    wait_until([&] { return read_run_status(directory_.path()).has_value(); });
    const RunStatus first = now();
    EXPECT_EQ(first.state, "running");
    EXPECT_EQ(first.command, "sft");
    EXPECT_EQ(first.num_ranks, 3);
    EXPECT_EQ(first.process.pid, this_process().pid);
    EXPECT_GE(first.heartbeat, before);
    EXPECT_LE(first.heartbeat, wall_seconds());
    writer.update([](RunStatus& s) {
      s.step = 7;
      s.loss = 1.5;
      s.checkpoint = "run/checkpoints/step-000005";
    });
    wait_until([&] { return now().step == 7; });
    EXPECT_EQ(now().loss, 1.5);
    EXPECT_EQ(now().checkpoint, "run/checkpoints/step-000005");
    EXPECT_GT(now().heartbeat, first.heartbeat);
    writer.end("stopped", "on a signal");
  }
  EXPECT_EQ(now().state, "stopped");
  EXPECT_EQ(now().message, "on a signal");
}

TEST_F(RunStatusTest, WritingIsNotProgressOfTheRun) {
  const uint64_t before = progress().num_operations.load();
  {
    const RunStatusWriter writer(directory_.path(), {}, 0.02);
    // read by other means, since a read through plumb would count as progress
    const auto file = std::filesystem::path(directory_.path()) / "status.json";
    wait_until([&] { return std::filesystem::exists(file); });
    const auto first = std::filesystem::last_write_time(file);
    wait_until([&] { return std::filesystem::last_write_time(file) > first; });
  }
  EXPECT_EQ(progress().num_operations.load(), before) << "or a watchdog never takes a run for one that hangs";
}

TEST_F(RunStatusTest, RunWithoutAnEndHasFailed) {
  try {
    const RunStatusWriter writer(directory_.path(), {}, 10);
    throw std::runtime_error("a fault");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(now().state, "failed");
}

TEST_F(RunStatusTest, MissingAndNullFieldsAreZero) {
  {
    RunStatusWriter writer(directory_.path(), {.loss = std::nan("")}, 10);
    writer.end("done");
  }
  EXPECT_EQ(now().loss, 0);
  directory_.write("status.json", "{\"state\": \"running\", \"step\": \"x\", \"process\": 3}");
  EXPECT_EQ(now().step, 0);
  EXPECT_EQ(now().process.pid, 0);
  for (const char* text : {"", "{", "[]", "{}"}) {
    directory_.write("status.json", text);
    EXPECT_THROW(read_run_status(directory_.path()), DataError) << text;
  }
}

TEST_F(RunStatusTest, MissingDirectoryIsTolerated) {
  RunStatusWriter writer(directory_.path() + "/none", {}, 0.02);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // time for several attempts
  writer.end("done");
}

}  // namespace
}  // namespace plumb::test
