// Memory of this process as the kernel counts it. Source: proc(5).
#pragma once

#include <cstdint>

namespace plumb {

/// Proportional set size: pages shared with other processes count by their share. 0 where the kernel does not tell.
int64_t proportional_set_bytes();

/// What that would be if `num_processes` ran this program on this machine: pages that are only read are shared by all.
int64_t expected_set_bytes(int num_processes);

/// Memory of this machine that programs can still take. 0 where the kernel does not tell.
int64_t available_memory_bytes();

}  // namespace plumb
