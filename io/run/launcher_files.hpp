// Files that Open MPI's launcher leaves on a machine when it is killed: its session directory in TMPDIR and segments of
// shared memory. Nobody else removes them, and the latter take memory until the machine starts anew.
// Source: Open MPI 4.1 (orte/util/proc_info.c, opal/mca/btl/vader, ompi/mca/osc/sm) for the names.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "io/run/process_identity.hpp"

namespace plumb {

struct LauncherJob {
  ProcessIdentity launcher;  // pid 0: this process was not started by mpirun
  int64_t job = 0;           // as Open MPI numbers it
};

LauncherJob this_launcher_job();

nlohmann::ordered_json to_json(const LauncherJob& job);
/// Fields that are missing or of another type are left empty.
LauncherJob launcher_job_from(const nlohmann::ordered_json& json);

/// Removes this user's files of a job whose ranks are gone; its session directory only if its launcher is gone, too.
/// Not if they were on another machine. What cannot be removed stays.
void remove_launcher_files(const LauncherJob& job) noexcept;

/// The same for every launcher of this user that was killed on this machine and that nobody wrote down, say while MPI
/// started: as orte-clean does, but only beside this process's own launcher, and not for one that may live.
void remove_files_of_gone_launchers() noexcept;

}  // namespace plumb
