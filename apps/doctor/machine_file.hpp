// The machine file of plumb doctor --measure, which plumb plan --machine reads: how fast the hosts of a job compute,
// copy, exchange and write, as JSON. All ranks measure at the same time, as they do in a run.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "apps/doctor/facts.hpp"
#include "partition/communicator.hpp"
#include "partition/step_cost.hpp"

namespace plumb {

/// Collective: takes some seconds. output_dir: "": the disk is not measured. Complete on rank 0 only.
nlohmann::ordered_json measure_machine(const Communicator& comm, const Facts& facts, const std::string& output_dir);

struct MeasuredMachine {
  Machine machine;
  int64_t ranks_per_host = 0;  // that measured at the same time, on the first host
  int64_t threads_per_rank = 0;
};

/// Throws InputOutputError; DataError for another file, or one of an older plumb.
MeasuredMachine read_machine(const std::string& path);

}  // namespace plumb
