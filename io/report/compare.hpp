// Several runs side by side: the options in which they differ and their results, as text and as a page in the style of
// report.html. Runs may be of different lengths, unfinished, or pipelines, whose stages are compared by name.
#pragma once

#include <string>
#include <vector>

#include "io/report/run_summary.hpp"

namespace plumb {

struct ComparedRun {
  std::string name;  // a short one, of this run alone
  RunSummary summary;
};

/// Reads the runs. Names are the last parts of the directories that tell them apart. Throws InputOutputError for what
/// is no run or pipeline.
std::vector<ComparedRun> read_runs(const std::vector<std::string>& directories);

/// A stage that at least one of the runs has.
struct StageComparison {
  std::string stage;
  TableSummary options;              // a row for each run; a column for each option in which they differ
  TableSummary results;              // a row for each run: status, steps, last and best values, time, speed
  std::vector<std::string> remarks;  // the best run, and what makes a comparison uneven
};
std::vector<StageComparison> compare_stages(const std::vector<ComparedRun>& runs);

/// The tables as text, in columns.
std::string render_comparison_text(const std::vector<ComparedRun>& runs);
/// A page with the tables and the curves, of the five best runs where there are more.
std::string render_comparison_page(const std::vector<ComparedRun>& runs);

}  // namespace plumb
