// Injected faults, so that tests can show what a run survives: PLUMB_FAULT=POINT:STEP:RANK:ACTION makes one rank fail
// where it passes the point of that name in that step. Several faults are separated by semicolons. Without the variable
// nothing happens. Every Phase (lib/base/activity.hpp) is a fault point, so that loops need no code for faults.
#pragma once

#include <cstdint>
#include <string_view>

namespace plumb {

/// ACTION: kill, stop, segv, usr1 or term (signals), exit (in order, with code 0), error (throws InputOutputError),
/// throw (std::runtime_error), or wait (a minute, in which a test kills something); others do nothing here. Before it
/// happens, a line on standard error names the fault and the time by the monotonic clock. The rank is
/// process_state().rank.
void fault_point(std::string_view point, int64_t step);

/// Whether the variable asks for this at this point: for faults that only change numbers.
bool is_fault_due(std::string_view point, int64_t step, std::string_view action);

}  // namespace plumb
