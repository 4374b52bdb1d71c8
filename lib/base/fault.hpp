// Faults on purpose, so that tests can show what a run survives: PLUMB_FAULT=POINT:STEP:RANK:ACTION makes one rank fail
// where it passes a named point in that step. Without the variable nothing happens.
#pragma once

#include <cstdint>
#include <string_view>

namespace plumb {

/// ACTION: kill, stop, segv, usr1 or term (signals), exit (in order, with code 0), error (throws InputOutputError),
/// throw, or wait (a minute, for whoever then kills). Several faults are separated by semicolons. A line on standard
/// error says which one comes, and when by the monotonic clock.
void fault_point(std::string_view point, int64_t step, int rank);

/// Whether the variable asks for this; for faults that are no more than wrong numbers.
bool is_fault_due(std::string_view point, int64_t step, int rank, std::string_view action);

}  // namespace plumb
