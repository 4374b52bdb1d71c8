// Pieces of report.html that recur: large figures, tables, notes, samples. All text that comes in is escaped here.
#pragma once

#include <string>
#include <vector>

#include "io/report/run_summary.hpp"

namespace plumb {

/// A result that deserves large type. The remark stands below it and may be empty.
struct KeyFigure {
  std::string label;
  std::string value;
  std::string remark;
};

std::string render_figures(const std::vector<KeyFigure>& figures);

/// Columns of which all cells look like numbers are set to the right. At most 200 rows and 12 columns are shown.
std::string render_table(const TableSummary& table);

/// A fact's value for people: shares in percent where the name says that it is one.
std::string render_fact(const std::string& name, const nlohmann::ordered_json& value);

/// Facts as a table of two columns, then the tables. Empty without any.
std::string render_findings(const NotesSummary& notes);

/// Cards: the prompt, and below it a column for every other text. At most 30.
std::string render_samples(const std::vector<SampleSummary>& samples);

std::string render_checks(const std::vector<CheckSummary>& checks);

/// What was kept, what was dropped and where it stands, how long the rows are.
std::string render_datasets(const std::vector<DatasetSummary>& datasets);

}  // namespace plumb
