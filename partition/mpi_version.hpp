// The version of the MPI library that this process has loaded.
#pragma once

#include <string>

namespace plumb {

/// Local, also before MPI has started: "Open MPI v4.1.4".
std::string mpi_version();

}  // namespace plumb
