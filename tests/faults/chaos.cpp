#include "tests/faults/chaos.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <map>
#include <random>

#include "tests/faults/fault_harness.hpp"
#include "tests/faults/leftovers.hpp"
#include "tests/faults/verify.hpp"

namespace plumb::test {

namespace {

constexpr FaultHarness::Length kLength{.steps_per_stage = 200, .save_steps = 10, .logging_steps = 1};
constexpr double kMinSeconds = 5, kMaxSeconds = 20;  // from the start to the fault
constexpr int kMaxStarts = 400;                      // per pipeline; more means that it makes no progress

struct ChaosFault {
  std::string name;
  std::function<void(pid_t launcher, int rank)> act = {};
  std::string point = {};  // or a fault point of a save
};

void signal_rank(pid_t launcher, int rank, int signal) {
  const std::vector<pid_t> ranks = children_of(launcher);
  if (!ranks.empty()) ::kill(ranks[static_cast<size_t>(rank) % ranks.size()], signal);
}

std::vector<ChaosFault> chaos_faults() {
  return {{"SIGKILL of a rank", [](pid_t launcher, int rank) { signal_rank(launcher, rank, SIGKILL); }},
          {"SIGKILL of all ranks",
           [](pid_t launcher, int) {
             for (const pid_t process : children_of(launcher)) ::kill(process, SIGKILL);
           }},
          {"SIGKILL of mpirun", [](pid_t launcher, int) { ::kill(launcher, SIGKILL); }},
          {"SIGSTOP of a rank", [](pid_t launcher, int rank) { signal_rank(launcher, rank, SIGSTOP); }},
          {"SIGSEGV of a rank", [](pid_t launcher, int rank) { signal_rank(launcher, rank, SIGSEGV); }},
          {"SIGTERM of mpirun", [](pid_t launcher, int) { ::kill(launcher, SIGTERM); }},
          {"SIGUSR1 to a rank", [](pid_t launcher, int rank) { signal_rank(launcher, rank, SIGUSR1); }},
          {"SIGKILL of a rank in a save"}};
}

/// Kills one rank at a fault point of a save, at some of the steps that are saved.
std::string save_fault(std::mt19937_64& random, int num_ranks) {
  const std::vector<std::string> points = {"begun",     "written", "synced", "described",
                                           "committed", "renamed", "pruning"};
  const std::string& point = points[random() % points.size()];
  const bool is_on_all_ranks = point == "written" || point == "synced";
  const uint64_t rank = is_on_all_ranks ? random() % static_cast<uint64_t>(num_ranks) : 0;
  std::string faults;
  for (int step = kLength.save_steps; step <= kLength.steps_per_stage; step += kLength.save_steps)
    if (random() % 4 == 0)
      faults += fmt::format("{}checkpoint-{}:{}:{}:kill", faults.empty() ? "" : ";", point, step, rank);
  return faults;
}

struct Tally {
  std::map<std::string, int> faults, exit_codes;
  int num_starts = 0, num_pipelines = 0;
  std::vector<std::string> failures;
};

void require(Tally& tally, bool holds, const std::string& failure) {
  if (holds) return;
  tally.failures.push_back(failure);
  fmt::print("FAILED: {}\n", failure);
}

/// Starts one pipeline again and again, with random faults, until it is complete.
void run_until_complete(FaultHarness& harness, std::mt19937_64& random, Tally& tally, bool is_async) {
  const std::vector<ChaosFault> faults = chaos_faults();
  const std::vector<int> rank_counts = {8, 4, 6, 3};
  const Place place = harness.make_place("chaos", Start::kEmpty);
  int exit_code = -1;
  for (int number = 0; exit_code != 0 && number < kMaxStarts; ++number) {
    const ChaosFault& fault = faults[random() % faults.size()];
    Attempt attempt{.num_ranks = rank_counts[random() % rank_counts.size()]};
    const int rank = static_cast<int>(random() % static_cast<uint64_t>(attempt.num_ranks));
    const double delay = std::uniform_real_distribution(kMinSeconds, kMaxSeconds)(random);
    if (fault.act) {
      attempt.acts = [&](const Place&) {
        // before the first step no watchdog may be running
        return std::vector<Act>{{fault.name.starts_with("SIGSTOP") ? "step " : "", delay,
                                 [&fault, rank](pid_t launcher) { fault.act(launcher, rank); }}};
      };
    } else {
      attempt.points = save_fault(random, attempt.num_ranks);
    }
    const RunResult result = harness.start(place, attempt, is_async);
    exit_code = result.exit_code;
    ++tally.num_starts;
    ++tally.exit_codes[std::to_string(exit_code)];
    if (exit_code != 0) ++tally.faults[fault.name];
    const std::vector<std::string> steps = lines_with(result.err, "loss ");
    fmt::print("{:3} {} ranks, {} after {:.0f} s: exit code {}; {}\n", tally.num_starts, attempt.num_ranks, fault.name,
               fault.act ? delay : result.seconds, exit_code, steps.empty() ? "" : steps.back().substr(0, 14));
    std::fflush(stdout);
    const std::string printed = result.err + result.launcher;
    require(tally, !result.has_timed_out, "it hung:\n" + printed);
    require(tally, exit_code != 2 && exit_code != 65, "refused:\n" + printed);
    require(tally, wait_for_end_of(harness.mark(), kTimeToEndSeconds), "processes were left by " + fault.name);
    for (const std::string& problem : damaged_checkpoints(place / "run")) require(tally, false, problem);
  }
  require(tally, exit_code == 0, "the pipeline was not completed");
  const std::string differs = difference(read_outcomes(place / "run"), harness.golden());
  require(tally, differs.empty(), differs);
  for (const std::string& name : temporary_files(place.directory)) require(tally, false, "left: " + name);
  for (const std::string& name : shared_memory_files()) require(tally, false, "left: " + name);
  ++tally.num_pipelines;
  harness.clear(place);
}

std::string render(const Tally& tally, double seconds, double golden_seconds, uint64_t seed) {
  std::string text = fmt::format(
      "{} pipelines of {} steps in {:.0f} minutes, seed {}, started {} times on 8, 4, 6 or 3 ranks at random "
      "(an undisturbed one takes {:.0f} s); {}.\n\n| fault | times |\n|---|---|\n",
      tally.num_pipelines, 2 * kLength.steps_per_stage, seconds / 60, seed, tally.num_starts, golden_seconds,
      tally.failures.empty() ? "all ended with the bits of the undisturbed run, and nothing was left"
                             : fmt::format("{} FAILURES", tally.failures.size()));
  for (const auto& [name, count] : tally.faults) text += fmt::format("| {} | {} |\n", name, count);
  text += "\nExit codes:";
  for (const auto& [code, count] : tally.exit_codes) text += fmt::format(" {} ({} times)", code, count);
  return text + "\n";
}

}  // namespace

int run_chaos(const std::string& directory, double minutes, uint64_t seed, const std::string& table) {
  FaultHarness harness(directory, kLength);
  fmt::print("undisturbed: {:.0f} s; seed {}\n", harness.golden_seconds(), seed);
  std::mt19937_64 random(seed);
  Tally tally;
  const double start = monotonic_seconds();
  do run_until_complete(harness, random, tally, tally.num_pipelines % 2 == 1);
  while (tally.failures.empty() && monotonic_seconds() - start < minutes * 60);
  const std::string text = render(tally, monotonic_seconds() - start, harness.golden_seconds(), seed);
  fmt::print("\n{}", text);
  if (!table.empty()) std::ofstream(table) << text;
  return static_cast<int>(tally.failures.size());
}

}  // namespace plumb::test
