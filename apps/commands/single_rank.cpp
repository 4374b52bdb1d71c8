#include "apps/commands/single_rank.hpp"

#include <cstdlib>

#include "lib/base/check.hpp"

namespace plumb {

void require_single_rank(std::string_view command) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && std::atoi(value) > 1)
      throw_error<UsageError>("plumb {}: expected one rank, got {}; start it without mpirun, or with -n 1", command,
                              value);
  }
}

}  // namespace plumb
