// The checks of plumb doctor: pure functions of what all ranks measured. A check is silent about what a run survives,
// and names the cure of what it does not.
#pragma once

#include <string>
#include <vector>

#include "apps/doctor/facts.hpp"

namespace plumb {

struct Finding {
  std::string check;  // "shared memory"
  bool is_ok = true;
  std::string text;       // what was measured; of a problem, what was expected and found where
  std::string cure = {};  // of a problem
};

/// All checks, in the order in which their problems are best mended. `facts` must not be empty.
std::vector<Finding> examine(const Facts& facts);

// job_checks.cpp: what all ranks must have in common
Finding check_launch(const Facts& facts);
Finding check_host_names(const Facts& facts);
Finding check_working_directory(const Facts& facts);
Finding check_environment(const Facts& facts);
Finding check_versions(const Facts& facts);
Finding check_instruction_sets(const Facts& facts);
Finding check_reduction(const Facts& facts);
Finding check_clocks(const Facts& facts);
Finding check_network(const Facts& facts);

// host_checks.cpp: what the ranks of a host share
Finding check_cores(const Facts& facts);
Finding check_binding(const Facts& facts);
Finding check_omp_variables(const Facts& facts);
Finding check_memory(const Facts& facts);
Finding check_shared_memory(const Facts& facts);
Finding check_single_copy(const Facts& facts);
Finding check_limits(const Facts& facts);

// directory_checks.cpp
Finding check_temporary_directory(const Facts& facts);
Finding check_output_directory(const Facts& facts);
Finding check_disk(const Facts& facts);
Finding check_locks(const Facts& facts);

/// The expected bits of exact_sum.
std::string known_answer();

/// Before MPI starts, for a rank on a host with num_local_ranks: whether Open MPI has room for its own files in shared
/// memory and TMPDIR, without which it ends with messages of its own, or with SIGBUS.
Finding check_room_for_mpi(const RankFacts& facts, int64_t num_local_ranks);

}  // namespace plumb
