// Identifies a process on a machine, in lock files and status files, so that another process can find out whether it is
// still alive. Source: proc(5), random(4) for the boot id; namespaces(7).
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace plumb {

struct ProcessIdentity {
  std::string host;
  std::string machine;  // boot id, and the namespace of process ids
  int64_t pid = 0;      // 0: unknown
  int64_t started = 0;  // ticks since boot, because process ids are reused
  std::string job;      // id in the batch system, "" without one
  int64_t restart = 0;  // how often the batch system has requeued that job
  std::string since;    // UTC time of this query
};

ProcessIdentity this_process();
/// The identity of another process of this machine and this batch job.
ProcessIdentity identity_of(int64_t pid);

enum class Life { kAlive, kDead, kUnknown };

/// kUnknown if the process is on another machine. An earlier start of a job that was requeued is gone.
Life life_of(const ProcessIdentity& process, const ProcessIdentity& me);
/// By what a temporary name says of its process (io/file/atomic_file.hpp); kUnknown: on another host.
Life life_of(std::string_view host, int64_t pid);

nlohmann::ordered_json to_json(const ProcessIdentity& process);
/// Fields that are missing or of another type stay empty.
ProcessIdentity process_identity_from(const nlohmann::ordered_json& json);

}  // namespace plumb
