// Recurring parts of report.html: large figures, tables, notes, samples. All text that enters the page is escaped here.
#pragma once

#include <string>
#include <vector>

#include "io/report/run_summary.hpp"

namespace plumb {

/// A result shown in large type. The remark is shown below it and may be empty.
struct KeyFigure {
  std::string label;
  std::string value;
  std::string remark;
};

/// A whole page with the style sheet of the reports. body: HTML. An unfinished page is loaded again every half minute.
std::string render_page(const std::string& title, const std::string& body, bool is_unfinished = false);

std::string render_figures(const std::vector<KeyFigure>& figures);

/// Columns whose cells all look like numbers are right-aligned. Shows at most 200 rows and 12 columns.
std::string render_table(const TableSummary& table);

/// A human-readable value: in percent if the name denotes a fraction.
std::string render_fact(const std::string& name, const nlohmann::ordered_json& value);

/// Facts as a table of two columns, then the tables. Empty if there are none.
std::string render_findings(const NotesSummary& notes);

/// Cards: the prompt, and below it one column per other text. Shows at most 30.
std::string render_samples(const std::vector<SampleSummary>& samples);

std::string render_checks(const std::vector<CheckSummary>& checks);

/// The rows kept, the rows dropped with their places, and the lengths of rows.
std::string render_datasets(const std::vector<DatasetSummary>& datasets);

}  // namespace plumb
