// report.html: the setup, progress and results of a run, on one page that needs neither network nor scripts.
#pragma once

#include <string>

#include "io/report/run_summary.hpp"

namespace plumb {

/// Renders the whole page. All texts of the summary are escaped.
std::string render_report(const RunSummary& run);

/// Rank 0 only: reads the run in its current state and replaces `directory`/report.html atomically. `directory` is that
/// of a stage or of a pipeline. Throws InputOutputError if it is not a directory or not writable. Returns the path.
std::string write_report(const std::string& directory);

}  // namespace plumb
