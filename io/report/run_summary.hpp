// What the report tells of a run, gathered from the files that the run leaves: run.json, metrics.jsonl,
// data/*/index.json, checks.json and notes.json of each stage, pipeline.json above them. Files may be missing,
// half-written or spoilt: the run may be going on, or have died. What could not be read becomes a line of `problems`,
// never an error.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/report/svg_plot.hpp"

namespace plumb {

/// Rows that something became of, and where the first stand.
struct TallySummary {
  std::string name;
  int64_t num_rows = 0;
  std::vector<std::string> first_places;
};

struct DatasetSummary {
  std::string name;  // "Training rows", or the key where the role is unknown
  std::vector<std::pair<std::string, double>> numbers;
  std::vector<TallySummary> tallies;  // those with rows
  /// By power of two of tokens: bin i holds rows of [2^i, 2^(i + 1)).
  std::vector<std::pair<std::string, std::vector<double>>> length_histograms;

  std::optional<double> number(const std::string& key) const;
};

struct CheckSummary {
  std::string name;
  bool has_passed = false;
  std::string detail;
};

struct TableSummary {
  std::string title;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
};

/// Named texts of one sample, in the order of the file; "prompt" among them.
using SampleSummary = std::vector<std::pair<std::string, std::string>>;

/// What commands leave for the report in notes.json.
struct NotesSummary {
  std::vector<std::string> warnings;
  std::vector<std::pair<std::string, nlohmann::ordered_json>> facts;  // a string, a number or a boolean each
  std::vector<TableSummary> tables;
  std::vector<SampleSummary> samples;
};

struct StageSummary {
  std::string name;    // "sft", "reward", "dpo"
  std::string status;  // "done", "running", "pending", "failed" or "unfinished"
  std::optional<double> seconds;
  std::string version;
  int64_t num_ranks = 0, num_nodes = 0, threads_per_rank = 0, num_steps = 0;
  std::string instruction_set;
  std::vector<std::pair<std::string, std::string>> options;
  std::map<std::string, double> plan;  // by key of run.json
  /// By key of metrics.jsonl, steps rising. A step that was done again after a restart counts as done again.
  std::map<std::string, std::vector<PlotPoint>> metrics;
  std::vector<DatasetSummary> datasets;
  std::vector<CheckSummary> checks;
  NotesSummary notes;

  const std::vector<PlotPoint>& metric(const std::string& key) const;
  /// The last value of a metric, whatever its step.
  std::optional<double> last(const std::string& key) const;
  std::string option(const std::string& key) const;
  int64_t last_step() const;
};

struct RunSummary {
  std::string name;  // of the directory
  bool is_pipeline = false;
  std::vector<StageSummary> stages;
  NotesSummary notes;                 // of the pipeline
  std::vector<std::string> problems;  // files that could not be read, and how
  int64_t read_at_seconds = 0;        // since 1970

  /// All stages together: "failed" if one is, "done" if all are, else "running" or "unfinished".
  std::string status() const;
};

/// `directory` is of a pipeline, where it holds pipeline.json, or of one stage. Throws InputOutputError only if it is
/// no directory.
RunSummary read_run(const std::string& directory);

}  // namespace plumb
