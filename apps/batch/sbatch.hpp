// Starts sbatch, without a shell.
#pragma once

#include <string>
#include <vector>

namespace plumb {

/// Runs `sbatch WORDS` and returns the job's id, the first line that it prints up to a semicolon. What sbatch says on
/// standard error is passed through. Throws InputOutputError where it cannot be started or refuses.
std::string run_sbatch(const std::vector<std::string>& words);

}  // namespace plumb
