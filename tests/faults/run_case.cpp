#include "tests/faults/run_case.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "tests/faults/damage.hpp"
#include "tests/faults/leftovers.hpp"
#include "tests/faults/verify.hpp"

namespace plumb::test {

namespace {

/// The time of the fault by the monotonic clock, from its log line; 0 if it was not reached.
double time_of_fault(const std::string& log) {
  const std::vector<std::string> lines = lines_with(log, " fault: ");
  if (lines.empty()) return 0;
  const size_t at = lines.front().rfind(" at ");
  return at == std::string::npos ? 0 : std::atof(lines.front().c_str() + at + 4);
}

struct Observed {
  std::vector<std::string> exit_codes, left;
  std::vector<std::string> failures;
  double seconds_to_detect = 0;
  int steps_lost = 0;
  bool has_same_bits = false;
};

class CaseRun {
 public:
  CaseRun(FaultHarness& harness, const FaultCase& given)
      : harness_(harness), given_(given), place_(harness.make_place("row", given.start)) {}
  ~CaseRun() { harness_.clear(place_); }
  CaseRun(const CaseRun&) = delete;
  CaseRun& operator=(const CaseRun&) = delete;

  Observed run() {
    if (given_.damage) given_.damage(place_);
    steps_done_ = given_.start == Start::kEmpty ? 0 : kStepsPerStage;
    if (given_.start == Start::kInDpo) steps_done_ += 25;
    for (const Attempt& attempt : given_.attempts) run_attempt(attempt);
    if (given_.mend) given_.mend(place_);
    const RunResult last = harness_.start(place_, {.num_ranks = given_.last_ranks}, given_.is_async);
    require(last.exit_code == 0,
            fmt::format("the next start ended with {}:\n{}{}", last.exit_code, last.err, last.launcher));
    count_lost(last);
    const std::string differs = difference(read_outcomes(place_ / "run"), harness_.golden(place_.second_stage));
    observed_.has_same_bits = differs.empty();
    require(observed_.has_same_bits, differs);
    require(observed_.steps_lost <= given_.max_steps_lost, fmt::format("{} steps were lost", observed_.steps_lost));
    look_for_leftovers("after the next start ");
    require(observed_.left.empty(), fmt::format("left: {}", fmt::join(observed_.left, ", ")));
    return observed_;
  }

 private:
  void require(bool holds, const std::string& failure) {
    if (!holds) observed_.failures.push_back(failure);
  }

  void run_attempt(const Attempt& attempt) {
    const RunResult result = harness_.start(place_, attempt, given_.is_async);
    const std::string printed = result.err + result.launcher;
    observed_.exit_codes.push_back(std::to_string(result.exit_code));
    require(!result.has_timed_out, "it hung");
    require(result.exit_code == attempt.exit_code,
            fmt::format("ended with {} instead of {}:\n{}", result.exit_code, attempt.exit_code, printed));
    require(printed.find(attempt.named) != std::string::npos,
            fmt::format("did not print \"{}\":\n{}", attempt.named, printed));
    require(attempt.points.empty() || time_of_fault(result.err) > 0, "the fault point was not reached:\n" + printed);
    require(attempt.exit_code == 76 || printed.find("watchdog: ") == std::string::npos, "false alarm:\n" + printed);
    require(wait_for_end_of(harness_.mark(), kTimeToEndSeconds), "processes were left");
    if (given_.max_detect_seconds > 0) {
      const double fault = result.acted_at > 0 ? result.acted_at : time_of_fault(result.err);
      observed_.seconds_to_detect = std::max(observed_.seconds_to_detect, result.ended_at - fault);
    }
    count_lost(result);
    steps_done_ = last_step(result.err, steps_done_);
    if (!given_.damage)
      for (const std::string& problem : damaged_checkpoints(place_ / "run")) require(false, problem);
  }

  void count_lost(const RunResult& result) {
    if (!result.err.empty() && lines_with(result.err, "pipeline: ").empty()) return;  // another command
    if (lines_with(result.err, "pipeline: stage ").empty() && result.exit_code != 0) return;
    const int first = first_step(result.err);
    observed_.steps_lost = std::max(observed_.steps_lost, steps_done_ - first);
  }

  void look_for_leftovers(const std::string& when) {
    for (const int process : processes_with(harness_.mark()))
      observed_.left.push_back(when + "process " + std::to_string(process));
    for (const std::string& name : shared_memory_files())
      if (std::find(segments_before_.begin(), segments_before_.end(), name) == segments_before_.end())
        observed_.left.push_back(when + name);
    for (const std::string& name : temporary_files(place_.directory)) observed_.left.push_back(when + name);
  }

  FaultHarness& harness_;
  const FaultCase& given_;
  const Place place_;
  const std::vector<std::string> segments_before_ = shared_memory_files();  // of other jobs, if /dev/shm is shared
  Observed observed_;
  int steps_done_ = 0;
};

}  // namespace

int last_step(const std::string& log, int before) {
  int stage = before > kStepsPerStage ? 1 : 0, last = before;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("pipeline: stage 1 of") != std::string::npos) stage = 0;
    if (line.find("pipeline: stage 2 of") != std::string::npos) stage = 1;
    const size_t at = line.find("step ");
    if (at == std::string::npos || line.find("/" + std::to_string(kStepsPerStage) + " ", at) == std::string::npos)
      continue;
    last = stage * kStepsPerStage + std::atoi(line.c_str() + at + 5);
  }
  return last;
}

int first_step(const std::string& log) {
  const bool is_in_first = !lines_with(log, "pipeline: stage 1 of").empty();
  const bool is_in_second = !lines_with(log, "pipeline: stage 2 of").empty();
  if (!is_in_first && !is_in_second) return 2 * kStepsPerStage;
  // in the log of the first stage that ran; a second one then starts from scratch
  const size_t second = is_in_first ? log.find("pipeline: stage 2 of") : std::string::npos;
  const std::string part = log.substr(0, second);
  const std::vector<std::string> resumed = lines_with(part, "resuming after step ");
  int step = 0;
  if (!resumed.empty()) step = std::atoi(resumed[0].c_str() + resumed[0].find("after step ") + 11);
  if (!lines_with(part, "already complete, nothing to do").empty()) step = kStepsPerStage;
  return step + (is_in_first ? 0 : kStepsPerStage);
}

Row run_case(FaultHarness& harness, const FaultCase& given, int num_times) {
  const double start = monotonic_seconds();
  Row row{given.fault, given.phase};
  std::vector<double> times;
  int steps_lost = 0;
  bool has_same_bits = true;
  for (int time = 0; time < num_times; ++time) {
    Observed observed;
    try {
      observed = CaseRun(harness, given).run();
    } catch (const std::exception& error) {
      observed.failures.emplace_back(error.what());
    }
    times.push_back(observed.seconds_to_detect);
    steps_lost = std::max(steps_lost, observed.steps_lost);
    has_same_bits = has_same_bits && observed.has_same_bits;
    row.exit_code = fmt::format("{}", fmt::join(observed.exit_codes, ", "));
    row.left = observed.left.empty() ? "nothing" : fmt::format("{}", fmt::join(observed.left, ", "));
    row.failures.insert(row.failures.end(), observed.failures.begin(), observed.failures.end());
  }
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  if (given.max_detect_seconds > 0) row.detected = fmt::format("{:.1f} s", median);
  if (given.max_detect_seconds > 0 && median > given.max_detect_seconds)
    row.failures.push_back(fmt::format("detected after {:.1f} s", median));
  row.named = given.attempts.back().named;
  row.steps_lost = std::to_string(steps_lost);
  row.same_bits = has_same_bits ? "yes" : "NO";
  row.seconds = monotonic_seconds() - start;
  return row;
}

}  // namespace plumb::test
