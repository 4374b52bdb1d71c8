// plumb COMMAND [--option value ...]
#include "apps/commands/command_line.hpp"
#include "lib/base/end_process.hpp"

int main(int argc, char** argv) { plumb::end_process(plumb::run_command_line({argv + 1, argv + argc})); }
