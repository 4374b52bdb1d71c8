// Removes the files that Open MPI's launcher leaves on a machine when it is killed: its session directory in TMPDIR and
// its shared-memory segments. Nothing else removes them, and the segments use memory until the next reboot.
// Source: Open MPI 4.1 (orte/util/proc_info.c, opal/mca/btl/vader, ompi/mca/osc/sm) for the names.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "io/run/process_identity.hpp"

namespace plumb {

struct LauncherJob {
  ProcessIdentity launcher;  // pid 0: this process was not started by mpirun
  int64_t job = 0;           // Open MPI's number of the job
};

LauncherJob this_launcher_job();

nlohmann::ordered_json to_json(const LauncherJob& job);
/// Fields that are missing or of another type stay empty.
LauncherJob launcher_job_from(const nlohmann::ordered_json& json);

/// Removes this user's files of a job whose ranks have ended; its session directory only if its launcher has ended too.
/// Does nothing for a job on another machine. Files that cannot be removed are left.
void remove_launcher_files(const LauncherJob& job) noexcept;

/// Does the same for every launcher of this user that was killed on this machine without a record, for example while
/// MPI was starting. Like orte-clean, but only next to this process's own launcher, and never for a launcher that may
/// be alive.
void remove_files_of_dead_launchers() noexcept;

}  // namespace plumb
