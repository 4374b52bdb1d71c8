// Measures this process and its host for plumb doctor, without MPI. Source: proc(5), getrlimit(2), getifaddrs(3),
// statfs(2), cgroups(7), dl_iterate_phdr(3).
#pragma once

#include "apps/doctor/facts.hpp"

namespace plumb {

/// The launcher by the environment. Call before MPI starts, which adds variables of its own.
LaunchFacts gather_launch();

/// Everything that needs no other rank but `launch`.
RankFacts gather_rank();

/// Free space and kind of file system of a directory that exists.
DirectoryFacts gather_directory(const std::string& path);

}  // namespace plumb
