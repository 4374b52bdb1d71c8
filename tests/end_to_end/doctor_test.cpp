// plumb doctor on this machine, as it is and with problems that need no root. checks_test.cpp plants the others.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

class Doctor : public ProgramTest {
 protected:
  /// Threads are left to doctor, so that ranks may outnumber the CPUs of the machine only where a test wants it.
  RunResult doctor(int num_ranks, std::map<std::string, std::string> environment = {},
                   std::vector<std::string> options = {}) const {
    environment.emplace("OMP_NUM_THREADS", "1");
    options.insert(options.begin(), "doctor");
    return run(num_ranks, options, {.environment = environment});
  }
  /// Expects that the only bad check is this one.
  static void expect_bad(const RunResult& result, const std::string& check, const std::string& part) {
    EXPECT_EQ(result.exit_code, 1) << result.out << result.err;
    const std::vector<std::string> bad = lines_with(result.out, "BAD");
    ASSERT_EQ(bad.size(), 1u) << result.out << result.err;
    EXPECT_EQ(bad[0].find("BAD  " + check), 0u) << bad[0];
    EXPECT_NE(result.out.find(part), std::string::npos) << result.out;
    EXPECT_EQ(lines_with(result.out, "cure: ").size(), 1u) << result.out;
  }
};

TEST_F(Doctor, IsSilentHere) {
  const RunResult result = doctor(2, {}, {"--output_dir", "new/runs", "--json", "--measure", "machine.json"});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  const auto report = nlohmann::json::parse(result.out);
  EXPECT_TRUE(report.at("ok"));
  EXPECT_EQ(report.at("ranks"), 2);
  EXPECT_EQ(report.at("checks").size(), 20u);
  EXPECT_FALSE(exists("new")) << "a directory that did not exist is removed";
  const auto machine = nlohmann::json::parse(directory_.read("machine.json"));
  EXPECT_GT(machine.at("flops_per_rank").at("bfloat16"), 0);
  EXPECT_GT(machine.at("flops_per_rank").at("float32"), 0);
  EXPECT_GT(machine.at("memory_bytes_per_second_per_rank"), 0);
  EXPECT_GT(machine.at("within_host").at("bytes_per_second"), 0);
  EXPECT_GT(machine.at("within_host").at("latency_seconds"), 0);
  EXPECT_TRUE(machine.at("between_hosts").is_null());
  EXPECT_GT(machine.at("disk_bytes_per_second"), 0);
  EXPECT_EQ(machine.at("hosts").at(0).at("ranks"), 2);
}

TEST_F(Doctor, FindsWhatIsPlanted) {
  expect_bad(doctor(0, {{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_MPI_TYPE", "none"}}), "launch", "srun --mpi=pmix");
  expect_bad(doctor(0, {}, {"--output_dir", "/proc/none"}), "output_dir", "/proc/none");
  EXPECT_EQ(doctor(0, {}, {"--outputdir", "x"}).exit_code, 2);
}

TEST_F(Doctor, PrintsBeforeMpiStartsWhereItCannot) {
  const RunResult result = doctor(2, {{"PLUMB_SHM_DIR", "/proc/none"}});
  expect_bad(result, "shared memory", "/proc/none: cannot be written: No such file");
}

TEST_F(Doctor, KnowsTheLimitsOfItsShell) {
  const RunResult result = run_program({"sh", "-c", "ulimit -n 100; OMP_NUM_THREADS=1 exec " PLUMB_PROGRAM " doctor"});
  expect_bad(result, "limits", "open files is 100");
}

}  // namespace
}  // namespace plumb::test
