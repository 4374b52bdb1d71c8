// plumb status --watch: a view in a terminal that is drawn again while a run goes its way.
#pragma once

#include <string>

namespace plumb {

struct Screen {
  int num_columns = 80, num_rows = 24;
  bool has_braille = true;  // its locale is UTF-8
};

/// The screen of a run, pipeline or sweep: the state, and curves of the active run as far as there is room.
/// At most num_rows lines of num_columns characters. Throws as standing_of().
std::string render_screen(const std::string& directory, const Screen& screen);

/// Draws until the run is no longer running, or until a signal to stop; leaves the terminal as it was, with the last
/// state in it. Returns the exit code of plumb status. Throws UsageError unless standard output is a terminal.
int watch(const std::string& directory);

}  // namespace plumb
