// How a command runs on all ranks of its job.
#pragma once

#include <functional>

#include "partition/communicator.hpp"

namespace plumb {

/// Starts MPI and runs body on all ranks of the job. An error that all ranks agreed on ends each with its exit code;
/// one that a rank has alone is logged with its rank and ends the job at once.
int run_on_ranks(const std::function<int(const Communicator&)>& body);

/// The rank as the launcher tells it in the environment, before MPI starts; 0 without one.
int rank_in_environment();

}  // namespace plumb
