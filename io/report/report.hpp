// report.html: what a run was, how it went and what came of it, on one page that needs neither network nor scripts.
#pragma once

#include <string>

#include "io/report/run_summary.hpp"

namespace plumb {

/// The whole page. Whatever the summary's texts hold, they stay text.
std::string render_report(const RunSummary& run);

/// Rank 0 only: reads the run as far as it has come and replaces `directory`/report.html, which a reader sees whole at
/// any time. `directory` is of a stage or of a pipeline. Throws InputOutputError if it is no directory or cannot be
/// written to; returns the path.
std::string write_report(const std::string& directory);

}  // namespace plumb
