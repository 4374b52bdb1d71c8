// Commands that one process does alone.
#pragma once

#include <string_view>

namespace plumb {

/// Throws UsageError if a launcher started several ranks of this program.
void require_single_rank(std::string_view command);

}  // namespace plumb
