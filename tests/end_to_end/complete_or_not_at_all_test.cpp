// Every file and directory that plumb publishes is complete: on a full disk it does not appear, and no temporary file
// is left. tests/io/file tests the classes themselves, checkpoint_faults_test.cpp checkpoints.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

/// Mounts a small file system on output_dir.
class CompleteOrNotAtAll : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    ASSERT_EQ(run(0, {"init", "--output_dir", "large", "--hidden_size", "64", "--num_layers", "4"}).exit_code, 0);
    fs::create_directory(directory_ / "out");
  }
  void TearDown() override { unmount(); }
  bool mount_of(const std::string& size) {
    is_mounted_ = ::mount("tmpfs", (directory_ / "out").c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
    return is_mounted_;
  }
  void unmount() {
    if (!is_mounted_) return;
    EXPECT_EQ(::umount((directory_ / "out").c_str()), 0);
    is_mounted_ = false;
  }

 private:
  bool is_mounted_ = false;
};

TEST_F(CompleteOrNotAtAll, AModelThatATrainingRunExports) {
  for (const int num_ranks : {0, 3}) {
    if (!mount_of("1m")) GTEST_SKIP() << "mount is not permitted: " << std::strerror(errno);
    // training succeeds, then the run waits for room until its time is over
    const RunResult result = sft(num_ranks, {{"model", "large"}, {"max_time", "8"}});
    EXPECT_EQ(result.exit_code, 75) << result.err;
    EXPECT_EQ(lines_with(result.err, "of free disk space for the model or a checkpoint").size(), 1u) << result.err;
    EXPECT_EQ(lines_with(result.err, "the run waits for it").size(), 1u) << result.err;
    EXPECT_EQ(metrics("loss").size(), 2u);
    EXPECT_FALSE(exists("out/model"));
    EXPECT_EQ(unfinished_files(), std::vector<std::string>());
    unmount();
  }
}

TEST_F(CompleteOrNotAtAll, PreparedData) {
  if (!mount_of("16k")) GTEST_SKIP() << "mount is not permitted: " << std::strerror(errno);
  expect_refused(sft(0), 74, {"out/data", "No space left on device"});
  EXPECT_TRUE(!exists("out/data") || fs::is_empty(directory_ / "out/data"));
}

TEST_F(CompleteOrNotAtAll, AModelThatACommandWrites) {
  const std::vector<std::string> commands[] = {
      {"init", "--hidden_size", "64", "--num_layers", "4", "--output_dir", "out/new"},
      {"quantize", "--model", "large", "--output_dir", "out/new"},
  };
  for (const std::vector<std::string>& command : commands) {
    SCOPED_TRACE(command[0]);
    if (!mount_of("32k")) GTEST_SKIP() << "mount is not permitted: " << std::strerror(errno);
    expect_refused(run(0, command), 74, {"out/new", "No space left on device"});
    EXPECT_FALSE(exists("out/new"));
    unmount();
  }
}

}  // namespace
}  // namespace plumb::test
