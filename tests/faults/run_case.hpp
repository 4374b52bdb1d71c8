// Runs a row: injects the fault, checks how it is detected, repeats the command, and compares the outcome with that of
// the undisturbed run.
#pragma once

#include <string>
#include <vector>

#include "tests/faults/fault_case.hpp"
#include "tests/faults/fault_harness.hpp"

namespace plumb::test {

/// A row of the fault table as observed.
struct Row {
  std::string fault = {}, phase = {}, exit_code = {}, named = {}, detected = {}, steps_lost = {}, same_bits = {},
              left = {};
  std::vector<std::string> failures = {};  // failed checks
  double seconds = 0;
};

/// The last step that a run's log names, counted over both stages; `before` if it names none.
int last_step(const std::string& log, int before);
/// The step after which a run resumed, according to its log.
int first_step(const std::string& log);

/// Runs a row num_times times and reports the median of the times to detect.
Row run_case(FaultHarness& harness, const FaultCase& given, int num_times);

}  // namespace plumb::test
