// Measurements that the ranks of a job take together for plumb doctor. Nothing here throws for what it finds: a check
// decides.
#pragma once

#include <string>

#include "apps/doctor/facts.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Collective: measures and gathers. mine: of gather_rank(), and the launch. output_dir: "": not measured; created, and
/// removed again, where it does not exist.
Facts probe_job(const Communicator& comm, RankFacts mine, const std::string& output_dir);

}  // namespace plumb
