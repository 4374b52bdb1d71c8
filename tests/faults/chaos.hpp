// Runs with a random fault every few seconds, on changing numbers of ranks, until they are complete.
#pragma once

#include <cstdint>
#include <string>

namespace plumb::test {

/// Runs pipelines to completion, one after the other, for about this many minutes; each must end as an undisturbed one
/// does. Prints progress, and writes a Markdown summary to `table` if it is not empty. Returns the number of failures.
int run_chaos(const std::string& directory, double minutes, uint64_t seed, const std::string& table);

}  // namespace plumb::test
