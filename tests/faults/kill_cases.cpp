// Processes that are killed or stopped, in every phase of a run.
#include <csignal>

#include "tests/faults/fault_case.hpp"

namespace plumb::test {

namespace {

/// A phase of a run, its fault point, and the state before it.
struct Phase {
  const char* name;
  const char* point;  // POINT:STEP
  Start start;
};

constexpr Phase kPhases[] = {
    {"start of a stage", "init:0", Start::kEmpty},
    {"preparing rows", "prepare:0", Start::kEmpty},
    {"reading a batch, sft step 13", "data:13", Start::kEmpty},
    {"forward, step 14", "forward:14", Start::kSftDone},
    {"backward, step 15", "backward:15", Start::kSftDone},
    {"reduction, step 16", "reduce:16", Start::kSftDone},
    {"update, step 17", "update:17", Start::kSftDone},
    {"loading a checkpoint", "load:20", Start::kInDpo},
    {"after the export of sft", "stage-exported:30", Start::kEmpty},
    {"between the stages, sft not yet recorded", "stage-ended:1", Start::kEmpty},
    {"between the stages, sft recorded", "stage-recorded:1", Start::kEmpty},
    {"all done, before MPI ends", "end:0", Start::kInDpo},
};

/// The phases of a round of grpo, which two steps share.
constexpr Phase kRoundPhases[] = {
    {"generating completions, grpo step 15", "generate:15", Start::kBeforeGrpo},
    {"scoring them, grpo step 15", "score:15", Start::kBeforeGrpo},
    {"their log-probabilities, grpo step 15", "logps:15", Start::kBeforeGrpo},
    {"their advantages, grpo step 15", "advantages:15", Start::kBeforeGrpo},
    {"inside the round, grpo step 16", "backward:16", Start::kBeforeGrpo},
};

std::string at(const Phase& phase, int rank, const char* action) {
  return std::string(phase.point) + ":" + std::to_string(rank) + ":" + action;
}

}  // namespace

std::vector<FaultCase> kill_cases() {
  std::vector<FaultCase> cases;
  for (const Phase& phase : kPhases) {
    const bool is_in_steps = phase.start == Start::kSftDone;
    cases.push_back({.fault = "SIGKILL of one rank",
                     .phase = phase.name,
                     .start = phase.start,
                     .attempts = {{.points = at(phase, 3, "kill"), .exit_code = 137, .named = "process rank 3"}},
                     .is_smoke = std::string_view(phase.point) == "backward:15"});
    if (is_in_steps) continue;
    cases.push_back(
        {.fault = "SIGKILL of all ranks",
         .phase = phase.name,
         .start = phase.start,
         .attempts = {
             {.points = at(phase, 3, "wait"), .kill = Kill::kAllRanks, .exit_code = 137, .named = "signal 9"}}});
  }
  const auto add = [&](const std::string& fault, const Phase& phase, Attempt attempt, double max_detect_seconds = 5,
                       bool is_smoke = false) {
    cases.push_back({.fault = fault,
                     .phase = phase.name,
                     .start = phase.start,
                     .attempts = {std::move(attempt)},
                     .is_smoke = is_smoke,
                     .max_detect_seconds = max_detect_seconds});
  };
  const Phase& batch = kPhases[2];
  const Phase& forward = kPhases[3];
  const Phase& backward = kPhases[4];
  const Phase& reduction = kPhases[5];
  const Phase& load = kPhases[7];
  const Phase& between = kPhases[10];
  const Phase& end = kPhases[11];
  add("SIGKILL of all ranks", backward,
      {.points = at(backward, 3, "wait"), .kill = Kill::kAllRanks, .exit_code = 137, .named = "signal 9"});
  for (const Phase* phase : {&batch, &backward, &reduction, &load})
    add("SIGKILL of mpirun", *phase, {.points = at(*phase, 3, "wait"), .kill = Kill::kLauncher, .exit_code = 137}, 5,
        phase == &backward);
  for (const Phase* phase : {&batch, &forward, &backward, &reduction, &load, &between})
    add("SIGSTOP of one rank", *phase, {.points = at(*phase, 3, "stop"), .exit_code = 76, .named = "rank 3 (process "},
        kWatchdogSeconds + 2, phase == &between);
  add("SIGSTOP of one rank", end, {.points = at(end, 3, "stop"), .exit_code = 76, .named = "another rank hangs"},
      kWatchdogSeconds + 2);
  for (const Phase* phase : {&forward, &reduction})
    add("SIGSEGV", *phase, {.points = at(*phase, 3, "segv"), .exit_code = 139, .named = "process rank 3"});
  for (const Phase* phase : {&batch, &backward})
    add("exception in one rank", *phase,
        {.points = at(*phase, 3, "throw"), .exit_code = 70, .named = "[rank 3] error: "});
  for (const Phase* phase : {&batch, &backward})
    add("exit(0) in one rank", *phase, {.points = at(*phase, 3, "exit"), .exit_code = 70, .named = "[rank 3] error: "},
        5, phase == &backward);
  for (const Phase& phase : kRoundPhases) {
    add("SIGKILL of one rank", phase, {.points = at(phase, 3, "kill"), .exit_code = 137, .named = "process rank 3"});
    add("SIGSTOP of one rank", phase, {.points = at(phase, 3, "stop"), .exit_code = 76, .named = "rank 3 (process "},
        kWatchdogSeconds + 2);
  }
  return cases;
}

}  // namespace plumb::test
