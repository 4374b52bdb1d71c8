// kill -9 of all ranks at each point of a save, synchronous or asynchronous.
#include "tests/faults/fault_case.hpp"

namespace plumb::test {

namespace {

struct SavePoint {
  const char* name;
  const char* point;  // POINT:STEP:RANK
};

constexpr SavePoint kSavePoints[] = {
    {"save of step 20 begun", "checkpoint-begun:20:0"},
    {"its files written", "checkpoint-written:20:3"},
    {"its files synced", "checkpoint-synced:20:3"},
    {"its manifest written", "checkpoint-described:20:0"},
    {"COMMIT written", "checkpoint-committed:20:0"},
    {"renamed, directory not synced", "checkpoint-renamed:20:0"},
    {"before old ones are removed", "checkpoint-pruning:30:0"},
};

}  // namespace

std::vector<FaultCase> save_cases() {
  std::vector<FaultCase> cases;
  for (const bool is_async : {false, true})
    for (const SavePoint& point : kSavePoints) {
      const std::string text = point.point;
      cases.push_back({.fault = "SIGKILL of all ranks",
                       .phase = point.name + std::string(is_async ? ", asynchronously" : ""),
                       .attempts = {{.points = text + ":wait", .kill = Kill::kAllRanks, .exit_code = 137}},
                       .is_async = is_async,
                       .is_smoke = text.starts_with("checkpoint-described") && is_async,
                       .max_steps_lost = is_async ? 2 * kInterval : kInterval});
    }
  for (const bool is_async : {false, true})
    for (const SavePoint& point : {kSavePoints[1], kSavePoints[4]}) {
      const std::string text = point.point;
      cases.push_back({.fault = "SIGKILL of one rank",
                       .phase = point.name + std::string(is_async ? ", asynchronously" : ""),
                       .attempts = {{.points = text + ":kill", .exit_code = 137, .named = "process rank "}},
                       .is_async = is_async,
                       .max_steps_lost = is_async ? 2 * kInterval : kInterval});
    }
  cases.push_back(
      {.fault = "SIGSTOP of one rank",
       .phase = "its files written",
       .attempts = {{.points = "checkpoint-written:20:3:stop", .exit_code = 76, .named = "rank 3 (process "}},
       .max_detect_seconds = kWatchdogSeconds + 2});
  cases.push_back({.fault = "SIGKILL of mpirun",
                   .phase = "its files written, asynchronously",
                   .attempts = {{.points = "checkpoint-written:20:3:wait", .kill = Kill::kLauncher, .exit_code = 137}},
                   .is_async = true,
                   .max_steps_lost = 2 * kInterval});
  return cases;
}

}  // namespace plumb::test
