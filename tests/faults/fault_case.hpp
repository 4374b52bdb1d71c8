// A row of the fault table: the fault, the phase it is injected in, and the expected result. Values only; run_case.hpp
// runs a row.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/support/run_program.hpp"

namespace plumb::test {

/// The state of the run's directory before the fault.
enum class Start {
  kEmpty,
  kSftDone,
  kInDpo,       // killed after step 25 of dpo, with checkpoints of steps 10 and 20
  kBeforeGrpo,  // of the pipeline whose second stage is grpo, with sft done
};

/// Processes to kill after the fault has been logged.
enum class Kill { kNothing, kAllRanks, kLauncher };

/// The directory of a row, which contains the model, the rows, align.ini and run/.
struct Place {
  std::string directory;
  std::string second_stage = "dpo";  // of align.ini
  std::string operator/(const std::string& name) const { return directory + "/" + name; }
};

/// One start of the program with a fault.
struct Attempt {
  int num_ranks = 8;
  std::string points = {};  // PLUMB_FAULT
  Kill kill = Kill::kNothing;
  std::map<std::string, std::string> environment = {};  // of the preloaded library
  std::vector<std::string> arguments = {};              // instead of pipeline align.ini
  std::function<std::vector<Act>(const Place&)> acts = {};
  int exit_code = 0;
  std::string named = {};  // expected in the output
};

struct FaultCase {
  std::string fault, phase;
  Start start = Start::kSftDone;
  std::vector<Attempt> attempts;
  bool is_async = false;
  bool is_smoke = false;
  double max_detect_seconds = 5;  // from the fault to the end of the job; 0: the job must continue
  int max_steps_lost = 10;
  int last_ranks = 8;                             // of the start that completes the run
  std::function<void(const Place&)> damage = {};  // before the first attempt
  std::function<void(const Place&)> mend = {};    // after the last one
  bool needs_mounts = false;
  bool needs_preload = false;
};

inline constexpr double kWatchdogSeconds = 4;
inline constexpr int kInterval = 10;       // steps between two checkpoints
inline constexpr int kStepsPerStage = 30;  // of sft, and of dpo
inline constexpr int kMicroBatches = 24;   // per global batch, on any number of ranks

/// All rows except those of byte flips, in the order of the table.
std::vector<FaultCase> fault_cases();
std::vector<FaultCase> kill_cases();
std::vector<FaultCase> save_cases();
std::vector<FaultCase> disk_cases();
std::vector<FaultCase> other_cases();

}  // namespace plumb::test
