// The whole program but main(): finds the command, and turns an error into a message and an exit code.
#pragma once

#include <string>
#include <vector>

namespace plumb {

/// arguments: without the name of the program. Never throws.
int run_command_line(const std::vector<std::string>& arguments);

}  // namespace plumb
