// Runs a command on all ranks of its job.
#pragma once

#include <functional>

#include "partition/communicator.hpp"

namespace plumb {

/// Starts MPI, runs body on all ranks of the job and returns the exit code. An error that all ranks agreed on is logged
/// once; an error of one rank is logged with its rank and aborts the job.
int run_on_ranks(const std::function<int(const Communicator&)>& body);

/// The rank that the launcher set in the environment, known before MPI starts; 0 without a launcher.
int rank_in_environment();

}  // namespace plumb
