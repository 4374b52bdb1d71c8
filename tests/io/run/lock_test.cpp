#include "io/run/lock.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "io/run/process_identity.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb::test {
namespace {

constexpr double kBeatSeconds = 0.05;

class RunLockTest : public testing::Test {
 protected:
  std::string run() const { return directory_.path() + "/run"; }
  bool is_locked() const { return std::filesystem::exists(run() + "/job.lock"); }
  /// The contents of a lock file of another process.
  void write_lock(const ProcessIdentity& owner) const {
    std::filesystem::create_directories(run());
    directory_.write("run/job.lock", to_json(owner).dump() + "\n");
  }
  std::string refusal(double heartbeat_seconds = kBeatSeconds) const {
    return refusal_of<UsageError>([&] { const RunLock lock(run(), heartbeat_seconds); });
  }
  static ProcessIdentity elsewhere() {
    ProcessIdentity owner = this_process();
    owner.host = "other";
    owner.machine = "of another boot";
    owner.job = "77";
    return owner;
  }

  const TemporaryDirectory directory_;
};

TEST_F(RunLockTest, IsExclusiveAndReleasedByItsOwner) {
  {
    const RunLock lock(run(), kBeatSeconds);
    EXPECT_TRUE(is_locked());
    const std::string message = refusal();
    EXPECT_NE(message.find("process " + std::to_string(::getpid())), std::string::npos) << message;
    EXPECT_NE(message.find(run()), std::string::npos) << message;
    EXPECT_TRUE(is_locked()) << "a refused job leaves it";
  }
  EXPECT_FALSE(is_locked());
  EXPECT_EQ(refusal(), kAccepted);
}

TEST_F(RunLockTest, FilesOfAKilledLauncherAreRemoved) {
  const int64_t job = 0x70000000 + ::getpid();
  const std::string number = fmt::format("{:x}", job), other = fmt::format("{:x}", job + 1);
  const std::string segment = "/dev/shm/vader_segment.host.0." + number + ".3";
  const std::string of_another = "/dev/shm/vader_segment.host.0." + other + ".3";
  for (const std::string& path : {segment, of_another}) std::ofstream(path) << "memory";
  ::setenv("OMPI_MCA_ess_base_jobid", std::to_string(job).c_str(), 1);
  ::setenv("OMPI_MCA_orte_top_session_dir", (directory_ / "ompi.host.0").c_str(), 1);
  const pid_t launcher = ::fork();
  if (launcher == 0) {
    const std::string session = directory_ / fmt::format("ompi.host.0/pid.{}", ::getpid());
    std::filesystem::create_directories(session + "/1/0");
    ::setenv("OMPI_MCA_orte_jobfam_session_dir", session.c_str(), 1);
    const RunLock lock(run(), 100);
    std::raise(SIGKILL);
  }
  ASSERT_EQ(::waitpid(launcher, nullptr, 0), launcher);
  std::filesystem::create_directories(directory_ / "ompi.host.0/pid.1");
  EXPECT_TRUE(std::filesystem::exists(directory_ / fmt::format("ompi.host.0/pid.{}", launcher)));
  const RunLock lock(run(), 100);
  EXPECT_FALSE(std::filesystem::exists(directory_ / fmt::format("ompi.host.0/pid.{}", launcher)));
  EXPECT_TRUE(std::filesystem::exists(directory_ / "ompi.host.0/pid.1"));
  EXPECT_FALSE(std::filesystem::exists(segment));
  EXPECT_TRUE(std::filesystem::exists(of_another));
  std::filesystem::remove(of_another);
  ::unsetenv("OMPI_MCA_ess_base_jobid");
  ::unsetenv("OMPI_MCA_orte_top_session_dir");
}

TEST_F(RunLockTest, LockOfAKilledProcessIsTakenOverAtOnce) {
  const pid_t child = ::fork();
  if (child == 0) {
    const RunLock lock(run(), 100);
    std::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(is_locked());
  const RunLock lock(run(), 1e6);  // a heartbeat interval too long to wait for
  const auto owner = process_identity_from(nlohmann::ordered_json::parse(directory_.read("run/job.lock")));
  EXPECT_EQ(owner.pid, ::getpid());
}

TEST_F(RunLockTest, ReusedProcessIdIsNotTheOwner) {
  ProcessIdentity owner = this_process();
  owner.started -= 1;
  write_lock(owner);
  EXPECT_EQ(refusal(), kAccepted);
}

TEST_F(RunLockTest, OtherHostWithHeartbeatKeepsTheLock) {
  write_lock(elsewhere());
  std::atomic<bool> is_over = false;
  std::thread other([&] {
    while (!is_over) {
      ::utimensat(AT_FDCWD, (run() + "/job.lock").c_str(), nullptr, 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
  const std::string message = refusal(1);  // long, because the other process may have to wait for a processor
  is_over = true;
  other.join();
  EXPECT_NE(message.find("on other (job 77)"), std::string::npos) << message;
}

TEST_F(RunLockTest, OtherHostWithoutHeartbeatLosesTheLock) {
  write_lock(elsewhere());
  EXPECT_EQ(refusal(), kAccepted);
}

TEST_F(RunLockTest, InvalidLockFileIsTakenOver) {
  for (const char* text : {"", "{", "[1]", "{\"pid\": \"x\", \"host\": 3}"}) {
    std::filesystem::create_directories(run());
    directory_.write("run/job.lock", text);
    EXPECT_EQ(refusal(), kAccepted) << text;
  }
}

TEST_F(RunLockTest, RequeuedJobTakesOverItsOwnLock) {
  ProcessIdentity owner = elsewhere(), me = elsewhere();
  me.machine = "third";
  EXPECT_EQ(life_of(owner, me), Life::kUnknown);
  me.restart = 1;
  EXPECT_EQ(life_of(owner, me), Life::kDead);
  me.job = "78";
  EXPECT_EQ(life_of(owner, me), Life::kUnknown);
}

TEST_F(RunLockTest, HeartbeatMoves) {
  const RunLock lock(run(), kBeatSeconds);
  const auto beat = [&] { return std::filesystem::last_write_time(run() + "/job.lock"); };
  const auto first = beat();
  while (beat() == first) std::this_thread::sleep_for(std::chrono::milliseconds(10));  // or the test times out
}

}  // namespace
}  // namespace plumb::test
