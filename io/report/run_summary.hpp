// The contents of the report, collected from the files of a run: run.json, metrics.jsonl, data/*/index.json,
// checks.json and notes.json of each stage, and pipeline.json above them. The run may still be running or have died, so
// files may be missing, incomplete or damaged. Anything that cannot be read becomes a line of `problems`, never an
// error.
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

/// Rows with one outcome, and the places of the first of them.
struct TallySummary {
  std::string name;
  int64_t num_rows = 0;
  std::vector<std::string> first_places;
};

struct DatasetSummary {
  std::string name;  // "Training rows", or the key where the role is unknown
  std::vector<std::pair<std::string, double>> numbers;
  std::vector<TallySummary> tallies;  // the outcomes that occurred
  /// Binned by powers of two of tokens: bin i counts rows of [2^i, 2^(i + 1)) tokens.
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

/// Named texts of one sample, in file order; "prompt" is one of them.
using SampleSummary = std::vector<std::pair<std::string, std::string>>;

/// The notes of a command, from notes.json.
struct NotesSummary {
  std::vector<std::string> warnings;
  std::vector<std::pair<std::string, nlohmann::ordered_json>> facts;  // each value is a string, a number or a boolean
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
  /// By key of metrics.jsonl, in ascending steps. If a restart repeated a step, only the repetition counts.
  std::map<std::string, std::vector<PlotPoint>> metrics;
  std::vector<DatasetSummary> datasets;
  std::vector<CheckSummary> checks;
  NotesSummary notes;

  const std::vector<PlotPoint>& metric(const std::string& key) const;
  /// The last value of a metric, at whatever step.
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

/// `directory` is that of a pipeline, if it contains pipeline.json, or of one stage. Throws InputOutputError only if it
/// is not a directory.
RunSummary read_run(const std::string& directory);

}  // namespace plumb
