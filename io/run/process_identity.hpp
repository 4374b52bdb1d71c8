// Which process on which machine, so that another one can tell whether it still lives: in lock files and status files.
// Source: proc(5), random(4) for the boot's id; namespaces(7).
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace plumb {

struct ProcessIdentity {
  std::string host;
  std::string machine;  // this boot of it, and the namespace that process ids are of
  int64_t pid = 0;      // 0: not known
  int64_t started = 0;  // ticks since boot: an id may be used again
  std::string job;      // of the batch system, "" without one
  int64_t restart = 0;  // how often the batch system has put that job back into its queue
  std::string since;    // when this was asked, UTC
};

ProcessIdentity this_process();
/// Of another process of this machine and this batch job.
ProcessIdentity identity_of(int64_t pid);

enum class Life { kAlive, kGone, kUnknown };

/// kUnknown: on another machine. A job that was put back into the queue has ended before.
Life life_of(const ProcessIdentity& process, const ProcessIdentity& me);

nlohmann::ordered_json to_json(const ProcessIdentity& process);
/// Fields that are missing or of another type are left empty.
ProcessIdentity process_identity_from(const nlohmann::ordered_json& json);

/// "2026-05-04T13:20:00Z"
std::string utc_now();

}  // namespace plumb
