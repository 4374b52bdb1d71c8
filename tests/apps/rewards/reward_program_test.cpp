// Reward programs that answer, and those that hang, die, print garbage or too much.
#include "apps/rewards/reward_program.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>

#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

class RewardProgramTest : public testing::Test {
 protected:
  /// Options for a program of this text.
  RewardProgramOptions script(const std::string& text, double timeout_seconds = 20) {
    const std::string path = directory_.write("score.sh", "#!/bin/sh\n" + text);
    ::chmod(path.c_str(), 0700);
    RewardProgramOptions options;
    options.command = path;
    options.timeout_seconds = timeout_seconds;
    return options;
  }
  std::string log() const { return directory_ / "rewards.log"; }

  ProgramRewards run(const RewardProgramOptions& options, size_t num_requests) {
    return RewardProgram(options, log())(requests(num_requests));
  }
  static std::vector<RewardRequest> requests(size_t count) {
    std::vector<RewardRequest> requests(count);
    for (size_t i = 0; i < count; ++i) requests[i] = {"ask", std::string(i, 'x'), false, 3, {{"answer", i}}};
    return requests;
  }

  TemporaryDirectory directory_;
};

void expect_rewards(const ProgramRewards& got, const std::vector<double>& expected) {
  ASSERT_EQ(got.rewards.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_TRUE(got.rewards[i] == expected[i] || (std::isnan(got.rewards[i]) && std::isnan(expected[i])))
        << i << ": " << got.rewards[i];
}

const double kNone = std::nan("");

TEST_F(RewardProgramTest, AnswersInOrderOrById) {
  expect_rewards(run(script("while read line; do echo ${#line}; done"), 3), {91, 92, 93});
  expect_rewards(run(script("read a; read b; read c\n"
                            "echo '{\"id\": 2, \"reward\": 0.5}'; echo -1e3; echo '{\"reward\": null, \"id\": 1}'"),
                     3),
                 {-1000, kNone, 0.5});
}

TEST_F(RewardProgramTest, GetsOneObjectALine) {
  run(script("read line; echo \"$line\" >&2; echo 1"), 1);
  EXPECT_EQ(directory_.read("rewards.log"),
            R"({"id":0,"prompt":"ask","completion":"","truncated":false,"num_tokens":3,"row":{"answer":0}})"
            "\n");
}

TEST_F(RewardProgramTest, RunsOnFromCallToCall) {
  RewardProgram program(script("n=0; while read line; do n=$((n+1)); echo $n; done"), log());
  expect_rewards(program(requests(2)), {1, 2});
  expect_rewards(program(requests(1)), {3});
  expect_rewards(program({}), {});
}

TEST_F(RewardProgramTest, MayEndBetweenCalls) {
  RewardProgram program(script("read line; echo 5"), log());
  for (int call = 0; call < 3; ++call) {
    const ProgramRewards got = program(requests(1));
    expect_rewards(got, {5});
    EXPECT_EQ(got.num_failures(), 0);
    ::usleep(50'000);
  }
}

TEST_F(RewardProgramTest, TakesMoreThanAPipeHolds) {
  std::vector<RewardRequest> many = requests(50);
  for (RewardRequest& request : many) request.completion = std::string(10'000, 'y');
  RewardProgram program(script("while read line; do echo 1; done"), log());
  expect_rewards(program(many), std::vector<double>(50, 1));
  // all input is read before the first answer
  RewardProgram late(script("n=0; while [ $n -lt 50 ]; do read line; n=$((n+1)); done\n"
                            "n=0; while [ $n -lt 50 ]; do echo 2; n=$((n+1)); done"),
                     log());
  expect_rewards(late(many), std::vector<double>(50, 2));
}

TEST_F(RewardProgramTest, ThatDiesIsStartedAgainForTheRest) {
  const ProgramRewards got =
      run(script("while read line; do case \"$line\" in *'\"xx\"'*) exit 3;; esac; echo 1; done"), 5);
  expect_rewards(got, {1, 1, kNone, 1, 1});
  EXPECT_EQ(got.num_failures(), 1);
  EXPECT_EQ(got.failures[2], "it ended before it answered: exit code 3");
}

TEST_F(RewardProgramTest, ThatHangsLosesOneCompletion) {
  const double start = steady_seconds();
  const ProgramRewards got =
      run(script("while read line; do case \"$line\" in *'\"x\"'*) sleep 1000;; esac; echo 1; done", 0.5), 3);
  expect_rewards(got, {1, kNone, 1});
  EXPECT_EQ(got.failures[1], "no answer within 0.5 s");
  EXPECT_LT(steady_seconds() - start, 15);
}

TEST_F(RewardProgramTest, ThatNeverAnswersIsGivenUp) {
  const ProgramRewards got = run(script("exit 1"), 200);
  EXPECT_EQ(got.num_failures(), 200);
}

TEST_F(RewardProgramTest, ThatPrintsGarbageLosesWhatItGarbled) {
  for (const auto& [answer, why] : std::vector<std::pair<std::string, std::string>>{
           {"hello", "it answered \"hello\": expected JSON"},
           {"nan", "it answered \"nan\": expected JSON"},
           {"\"1\"", "expected a finite number or null, got string"},
           {"1 2", "expected JSON"},
           {"{\"id\": 7, \"reward\": 1}", "no request with id 7 is open"},
           {"{\"id\": 0, \"score\": 1}", "expected the keys id and reward, got \"score\""},
           {"", "expected JSON"}}) {
    const ProgramRewards got = run(script("read line; echo '" + answer + "'; cat > /dev/null"), 1);
    EXPECT_EQ(got.num_failures(), 1) << answer;
    EXPECT_NE(got.failures[0].find(why), std::string::npos) << answer << ": " << got.failures[0];
  }
}

TEST_F(RewardProgramTest, ThatPrintsTooMuchIsStopped) {
  const ProgramRewards endless = run(script("cat /dev/zero | tr '\\0' 7"), 2);
  EXPECT_EQ(endless.num_failures(), 2);
  EXPECT_EQ(endless.failures[0], "a line of more than 65536 bytes");
  // lines that answer nothing do not become answers of the next call
  RewardProgram program(script("while read line; do echo 1; echo 9; sleep 0.2; done"), log());
  expect_rewards(program(requests(1)), {1});
  ::usleep(300'000);
  expect_rewards(program(requests(1)), {1});
}

TEST_F(RewardProgramTest, StopsTheRunIfAskedTo) {
  RewardProgramOptions options = script("exit 7");
  options.on_error = OnRewardError::kStop;
  EXPECT_EQ(message_of<DataError>([&] { run(options, 2); }),
            "--reward_program: it ended before it answered: exit code 7; its messages are in " + log());
}

TEST_F(RewardProgramTest, ThatCannotBeStartedIsRefused) {
  RewardProgramOptions options;
  options.command = "no-such-program-of-anyone";
  EXPECT_EQ(refusal_of<UsageError>([&] { run(options, 1); }),
            "no-such-program-of-anyone: no program of this name that may be run; give its path, or one in PATH");
  options.command = directory_.write("plain.txt", "text");
  EXPECT_THROW(run(options, 1), UsageError);
  ::chmod(options.command.c_str(), 0700);
  EXPECT_NE(refusal_of<UsageError>([&] { run(options, 1); }).find("cannot be started"), std::string::npos);
}

TEST_F(RewardProgramTest, SeesNeitherSecretsNorDescriptors) {
  ::setenv("HF_TOKEN", "hf_secret", 1);
  const int leaked = ::open("/dev/null", 0);
  ASSERT_GT(leaked, 2);
  run(script("read line; env >&2; ls /proc/self/fd >&2; pwd >&2; echo 1"), 1);
  ::close(leaked);
  ::unsetenv("HF_TOKEN");
  const std::string seen = directory_.read("rewards.log");
  EXPECT_EQ(seen.find("secret"), std::string::npos) << seen;
  EXPECT_EQ(seen.find("\n" + std::to_string(leaked) + "\n4"), std::string::npos) << seen;
  EXPECT_NE(seen.find("/plumb-reward-"), std::string::npos) << seen;
}

TEST_F(RewardProgramTest, HasALimitOfMemoryAndAWrapper) {
  RewardProgramOptions options = script("read line; ulimit -v >&2; echo 1");
  options.max_memory_mb = 512;
  options.wrapper = "env PLUMB_WRAPPED=1";
  run(options, 1);
  EXPECT_EQ(directory_.read("rewards.log"), "524288\n");
}

TEST_F(RewardProgramTest, LeavesNoProcessAndNoDirectory) {
  const ProgramRewards got = run(script("sleep 1000 & read line; echo $!"), 1);
  const auto child = static_cast<pid_t>(got.rewards[0]);
  for (int i = 0; i < 100 && ::kill(child, 0) == 0; ++i) ::usleep(20'000);
  const std::string status = directory_.read("../../proc/" + std::to_string(child) + "/stat");
  EXPECT_TRUE(::kill(child, 0) != 0 || status.find(" Z ") != std::string::npos) << "killed with its group";
}

}  // namespace
}  // namespace plumb
