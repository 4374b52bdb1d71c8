// A run that is hit by a random fault every few seconds, on changing numbers of ranks, until it is complete.
#pragma once

#include <cstdint>
#include <string>

namespace plumb::test {

/// Runs pipelines to their end, one after the other, for about this long; each must end as an undisturbed one does.
/// Prints what it does, and a summary as Markdown to `table`. Returns the number of what went wrong.
int run_chaos(const std::string& directory, double minutes, uint64_t seed, const std::string& table);

}  // namespace plumb::test
