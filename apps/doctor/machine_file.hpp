// The machine file of plumb doctor --measure: how fast the hosts of a job compute, copy, exchange and write, as JSON
// for planning. All ranks measure at the same time, as they do in a run.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "apps/doctor/facts.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Collective: takes some seconds. output_dir: "": the disk is not measured. Complete on rank 0 only.
nlohmann::ordered_json measure_machine(const Communicator& comm, const Facts& facts, const std::string& output_dir);

}  // namespace plumb
