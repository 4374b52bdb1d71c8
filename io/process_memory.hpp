// Memory of this process as the kernel counts it. Source: proc(5).
#pragma once

#include <cstdint>

namespace plumb {

/// Proportional set size: pages shared with other processes count by their share. 0 where the kernel does not tell.
int64_t proportional_set_bytes();

/// Memory of this machine that programs can still take. 0 where the kernel does not tell.
int64_t available_memory_bytes();

}  // namespace plumb
