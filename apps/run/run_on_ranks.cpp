#include "apps/run/run_on_ranks.hpp"

#include <cstdlib>
#include <optional>

#include "apps/run/control.hpp"
#include "io/run/process_memory.hpp"
#include "lib/base/check.hpp"
#include "lib/base/fault.hpp"
#include "lib/base/log.hpp"
#include "lib/base/process_state.hpp"
#include "lib/base/shared_memory_directory.hpp"
#include "partition/deadline.hpp"
#include "partition/shared_memory.hpp"

namespace plumb {

int rank_in_environment() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"})
    if (const char* value = std::getenv(name)) return std::atoi(value);
  return 0;
}

static int ranks_per_node_in_environment() {
  const char* value = std::getenv("PLUMB_RANKS_PER_NODE");  // splits one machine into several nodes, for tests
  return value ? std::atoi(value) : 0;
}

int run_on_ranks(const std::function<int(const Communicator&)>& body) {
  int rank = rank_in_environment();
  process_state().rank = rank;
  fault_point("start", 0);
  MpiRuntime runtime;
  try {
    std::optional<Deadline> deadline(std::in_place, "the ranks to meet");
    const Communicator comm(ranks_per_node_in_environment());
    deadline.reset();
    rank = comm.rank();
    process_state().rank = rank;
    set_log_rank(comm.rank(), comm.size());
    claim_memory_of_mpi(comm, mapped_files_in(shared_memory_directory()));
    const int code = body(comm);
    fault_point("end", 0);
    deadline.emplace("the ranks to part");
    return code;
  } catch (const StoppedRun& stop) {
    if (rank == 0) log_info("{}", stop.what());
    return stop.code();
  } catch (const AgreedError& error) {
    if (rank == 0) log_error("{}", error.what());
    return error.code();
  } catch (const NumericError& error) {  // thrown on all ranks, because it depends on sums over ranks
    if (rank == 0) log_error("{}", error.what());
    return exit_code(error);
  } catch (const std::exception& error) {
    log_error("{}", error.what());
    MpiRuntime::abort(exit_code(error));
  }
}

}  // namespace plumb
