// plumb doctor: finds what a job on these hosts would trip over before it does.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "apps/commands/commands.hpp"
#include "apps/doctor/checks.hpp"
#include "apps/doctor/gather.hpp"
#include "apps/doctor/machine_file.hpp"
#include "apps/doctor/probes.hpp"
#include "apps/options/options.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "io/file/atomic_file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/version.hpp"

namespace plumb {

namespace {

constexpr int kExitProblem = 1;  // of this command alone: the job can run, but should not

struct DoctorOptions {
  std::string output_dir;
  std::string measure;
  bool is_json = false;
};

void print_text(const std::vector<Finding>& findings, const RankFacts& first, bool has_output_dir) {
  // mpirun gives its ranks a terminal also where its own output is a file
  const bool is_terminal = ::isatty(STDOUT_FILENO) != 0 && first.launch.launcher.empty();
  const auto mark = [&](bool is_ok) {
    const char* const word = is_ok ? "ok " : "BAD";
    return is_terminal ? fmt::format("\x1b[{}m{}\x1b[0m", is_ok ? 32 : 31, word) : word;
  };
  for (const Finding& finding : findings) {
    fmt::print("{}  {:<13}  {}\n", mark(finding.is_ok), finding.check, finding.text);
    if (!finding.cure.empty()) fmt::print("     cure: {}\n", finding.cure);
  }
  const auto num_bad = std::count_if(findings.begin(), findings.end(), [](const Finding& f) { return !f.is_ok; });
  fmt::print("{} check{}, {} bad{}\n", findings.size(), findings.size() == 1 ? "" : "s", num_bad,
             has_output_dir ? "" : "; --output_dir DIR also checks a directory for runs");
}

void print_json(const std::vector<Finding>& findings, const RankFacts& first) {
  nlohmann::ordered_json checks = nlohmann::ordered_json::array();
  bool is_ok = true;
  for (const Finding& finding : findings) {
    is_ok = is_ok && finding.is_ok;
    checks.push_back({{"check", finding.check}, {"ok", finding.is_ok}, {"text", finding.text}, {"cure", finding.cure}});
  }
  const nlohmann::ordered_json report = {
      {"plumb", version()}, {"ranks", first.num_ranks}, {"ok", is_ok}, {"checks", checks}};
  fmt::print("{}\n", report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

int report(const std::vector<Finding>& findings, const RankFacts& first, const DoctorOptions& o) {
  if (o.is_json)
    print_json(findings, first);
  else
    print_text(findings, first, !o.output_dir.empty());
  std::fflush(stdout);
  return std::all_of(findings.begin(), findings.end(), [](const Finding& f) { return f.is_ok; }) ? 0 : kExitProblem;
}

/// Ranks of this host by the launcher; 1 where it does not say.
int64_t num_local_ranks() {
  const char* const size = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  return size ? std::atoll(size) : 1;
}

int run_doctor(const DoctorOptions& o) {
  RankFacts mine = gather_rank();
  mine.launch = gather_launch();
  if (const Finding room = check_room_for_mpi(mine, num_local_ranks()); !room.is_ok) {
    // the launcher ends the job at the first rank that ends, so the others give rank 0 the time to print
    if (rank_in_environment() == 0) return report({room}, mine, o);
    std::this_thread::sleep_for(std::chrono::seconds(2));
    return kExitProblem;
  }
  ::setenv("PLUMB_START_SECONDS", "60", /*overwrite=*/0);
  const int rank = rank_in_environment();
  return run_on_ranks([&](const Communicator& comm) {
    const Facts facts = probe_job(comm, mine, o.output_dir);
    const std::vector<Finding> findings = examine(facts);
    const bool has_problem = std::any_of(findings.begin(), findings.end(), [](const Finding& f) { return !f.is_ok; });
    // of a job that has become several, each with a rank 0, one prints
    const bool prints = comm.rank() == 0 && (comm.size() > 1 || rank == 0);
    if (prints) report(findings, facts.front(), o);
    if (!o.measure.empty()) {
      const nlohmann::ordered_json machine = measure_machine(comm, facts, o.output_dir);
      comm.run_on_rank0([&] { write_file_atomically(o.measure, machine.dump(2) + "\n"); });
    }
    return has_problem ? kExitProblem : kExitDone;
  });
}

std::vector<BoundOption> bind_options(DoctorOptions& o) {
  return {declare("output_dir", OptionGroup::kOutput, o.output_dir,
                  "directory for runs whose disk and file system are checked, too; nothing is left there",
                  {.value_name = "DIR"}),
          declare("measure", OptionGroup::kOutput, o.measure,
                  "also measure rates of computing, memory, MPI and the disk, and write them to this file (JSON)",
                  {.value_name = "FILE"}),
          declare("json", OptionGroup::kOutput, o.is_json, "print JSON, for programs")};
}

}  // namespace

Command doctor_command() {
  return make_command<DoctorOptions>(
      {.name = "doctor",
       .summary = "find what a job on these hosts would trip over, with the cure",
       .usage = "[--output_dir DIR] [--json] [--measure FILE]",
       .example = "mpirun -n 8 plumb doctor --output_dir runs",
       .notes = "Start it as a run is started: with mpirun or srun, on the same hosts, ranks and variables.\n"
                "Exit code: 0 nothing found; 1 a check is bad. Other codes are those of any command."},
      bind_options, run_doctor);
}

}  // namespace plumb
