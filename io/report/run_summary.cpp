#include "io/report/run_summary.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <limits>
#include <memory>

#include "io/file/file.hpp"
#include "io/file/json_tolerant.hpp"
#include "io/report/text.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

constexpr int64_t kMaxMetricsBytes = int64_t{512} << 20;
constexpr size_t kMaxMetricNames = 200;
constexpr size_t kMaxDatasets = 16;
constexpr size_t kMaxItems = 500;         // of any list in a file written by others
constexpr int64_t kRunningSeconds = 600;  // since the last write

/// The name of the directory itself, also for "." and "run/".
std::string name_of_directory(const std::string& directory) {
  std::error_code error;
  const std::string name = std::filesystem::canonical(directory, error).filename().string();
  return name.empty() ? directory : name;
}

/// At most kMaxItems elements of an array; empty for anything else.
std::vector<OrderedJson> items_of(const OrderedJson& array) {
  if (!array.is_array()) return {};
  return {array.begin(), array.begin() + static_cast<std::ptrdiff_t>(std::min(array.size(), kMaxItems))};
}

NotesSummary read_notes(const OrderedJson& notes) {
  NotesSummary summary;
  for (const OrderedJson& warning : items_of(get_or_null(notes, "warnings")))
    summary.warnings.push_back(text_of(warning));
  for (const OrderedJson& fact : items_of(get_or_null(notes, "facts"))) {
    const OrderedJson& value = get_or_null(fact, "value");
    summary.facts.emplace_back(get_text(fact, "name"), value.is_primitive() ? value : OrderedJson(text_of(value)));
  }
  for (const OrderedJson& table : items_of(get_or_null(notes, "tables"))) {
    TableSummary& read = summary.tables.emplace_back();
    read.title = get_text(table, "title");
    for (const OrderedJson& column : items_of(get_or_null(table, "columns"))) read.columns.push_back(text_of(column));
    for (const OrderedJson& row : items_of(get_or_null(table, "rows"))) {
      read.rows.emplace_back();
      for (const OrderedJson& cell : items_of(row)) read.rows.back().push_back(text_of(cell));
    }
  }
  for (const OrderedJson& sample : items_of(get_or_null(notes, "samples"))) {
    if (!sample.is_object()) continue;
    summary.samples.emplace_back();
    for (const auto& [key, value] : sample.items()) summary.samples.back().emplace_back(key, text_of(value));
  }
  return summary;
}

/// Adds the numbers of one line and removes points at this step or later: a restart repeats steps.
void add_metrics(StageSummary& stage, const OrderedJson& line, double step) {
  for (const auto& [key, value] : line.items()) {
    if (key == "step" || (!value.is_number() && !value.is_null())) continue;
    if (stage.metrics.size() >= kMaxMetricNames && !stage.metrics.contains(key)) continue;
    std::vector<PlotPoint>& points = stage.metrics[key];
    while (!points.empty() && points.back().x >= step) points.pop_back();
    points.push_back({step, value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN()});
  }
}

void read_metrics(StageSummary& stage, const std::string& path, std::vector<std::string>& problems) {
  if (!is_regular_file(path)) return;
  std::string text;
  try {
    text = read_text_file(path, kMaxMetricsBytes);
  } catch (const std::exception& error) {
    problems.push_back(error.what());
    return;
  }
  int64_t num_spoilt_lines = 0, first_spoilt_line = 0, number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // incomplete: still being written, or its writer died
    ++number;
    const OrderedJson line = OrderedJson::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                                text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    begin = end + 1;
    const std::optional<double> step = get_number(line, "step");
    if (step && *step >= 0 && *step < 1e15) {
      add_metrics(stage, line, *step);
    } else if (num_spoilt_lines++ == 0) {
      first_spoilt_line = number;
    }
  }
  if (num_spoilt_lines > 0) {
    problems.push_back(fmt::format("{}: {} line{} without a step left out, the first is line {}", path,
                                   num_spoilt_lines, num_spoilt_lines == 1 ? "" : "s", first_spoilt_line));
  }
}

void read_run_json(StageSummary& stage, const OrderedJson& run) {
  if (stage.name.empty()) stage.name = get_text(run, "command");
  stage.version = get_text(run, "plumb");
  stage.num_ranks = get_count(run, "ranks");
  stage.num_nodes = get_count(run, "nodes");
  stage.threads_per_rank = get_count(run, "threads_per_rank");
  stage.num_steps = get_count(run, "num_steps");
  stage.instruction_set = get_text(run, "instruction_set");
  const OrderedJson& options = get_or_null(run, "options");
  if (options.is_object()) {
    for (const auto& [key, value] : options.items())
      if (stage.options.size() < kMaxItems) stage.options.emplace_back(key, text_of(value));
  }
  const OrderedJson& plan = get_or_null(run, "plan");
  if (plan.is_object()) {
    for (const auto& [key, value] : plan.items())
      if (value.is_number() && stage.plan.size() < kMaxItems) stage.plan[key] = value.get<double>();
  }
}

/// The sizes of the files named in an option, separated by spaces; empty if one cannot be found.
std::vector<int64_t> sizes_of(const std::string& names) {
  std::vector<int64_t> sizes;
  for (size_t begin = 0; begin < names.size();) {
    const size_t end = std::min(names.find(' ', begin), names.size());
    struct stat status = {};
    if (::stat(names.substr(begin, end - begin).c_str(), &status) != 0) return {};
    sizes.push_back(status.st_size);
    begin = end + 1;
  }
  return sizes;
}

/// An index does not record the purpose of its rows, but the sizes of its files identify it.
std::string role_of(const StageSummary& stage, const OrderedJson& index, const std::string& key) {
  std::vector<int64_t> sizes;
  for (const OrderedJson& file : items_of(get_or_null(get_or_null(index, "made_from"), "files")))
    sizes.push_back(get_count(file, "bytes"));
  if (!sizes.empty() && sizes == sizes_of(stage.option("data"))) return "Training rows";
  if (!sizes.empty() && sizes == sizes_of(stage.option("eval_data"))) return "Evaluation rows";
  return "Rows " + key.substr(0, 8);
}

void add_tally(DatasetSummary& dataset, const std::string& name, const OrderedJson& tally) {
  const int64_t num_rows = get_count(tally, "rows");
  if (num_rows == 0) return;
  TallySummary& added = dataset.tallies.emplace_back(TallySummary{name, num_rows, {}});
  for (const OrderedJson& place : items_of(get_or_null(tally, "first"))) added.first_places.push_back(text_of(place));
}

DatasetSummary read_dataset(const OrderedJson& statistics) {
  DatasetSummary dataset;
  for (const auto& [key, value] : statistics.items()) {
    if (value.is_number()) {
      dataset.numbers.emplace_back(key, value.get<double>());
    } else if (value.is_array() && key.find("histogram") != std::string::npos && value.size() <= 64) {
      auto& histogram = dataset.length_histograms.emplace_back(key, std::vector<double>());
      for (const OrderedJson& count : value) histogram.second.push_back(count.is_number() ? count.get<double>() : 0);
    } else if (key == "dropped" && value.is_object()) {
      for (const auto& [reason, tally] : value.items()) add_tally(dataset, "dropped: " + reason, tally);
    } else if (value.is_object()) {
      add_tally(dataset, key, value);
    }
  }
  return dataset;
}

/// The names in a directory, sorted; empty if it cannot be read.
std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(directory.c_str()), ::closedir);
  while (const dirent* entry = open ? ::readdir(open.get()) : nullptr)
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

void read_datasets(StageSummary& stage, const std::string& directory, std::vector<std::string>& problems) {
  for (const std::string& key : names_in(directory)) {
    if (stage.datasets.size() >= kMaxDatasets) break;
    const OrderedJson index = read_json_file(join_path(join_path(directory, key), "index.json"), problems);
    const OrderedJson& statistics = get_or_null(index, "statistics");
    if (!statistics.is_object()) continue;
    DatasetSummary dataset = read_dataset(statistics);
    dataset.name = role_of(stage, index, key);
    stage.datasets.push_back(std::move(dataset));
  }
  std::stable_sort(stage.datasets.begin(), stage.datasets.end(), [](const auto& a, const auto& b) {
    return (a.name == "Training rows") > (b.name == "Training rows");
  });
}

/// True if a job has recently changed one of the files.
bool was_changed_recently(const std::vector<std::string>& paths, int64_t now_seconds) {
  return std::any_of(paths.begin(), paths.end(), [&](const std::string& path) {
    struct stat status = {};
    return ::stat(path.c_str(), &status) == 0 && now_seconds - status.st_mtime < kRunningSeconds;
  });
}

/// The status according to the files, for a stage that no pipeline tracks.
std::string status_from_files(const StageSummary& stage, const std::string& metrics_path, int64_t now_seconds) {
  if (stage.num_steps > 0 && stage.last_step() >= stage.num_steps) return "done";
  return was_changed_recently({metrics_path}, now_seconds) ? "running" : "unfinished";
}

/// The time spent in steps: each line has the mean over the steps since the previous line.
std::optional<double> seconds_in_steps(const StageSummary& stage) {
  double seconds = 0, step = 0;
  for (const PlotPoint& point : stage.metric("step_seconds")) {
    if (std::isfinite(point.y)) seconds += point.y * (point.x - step);
    step = point.x;
  }
  return step > 0 ? std::optional(seconds) : std::nullopt;
}

void read_stage(StageSummary& stage, const std::string& directory, RunSummary& run) {
  const auto in_directory = [&](const char* name) { return join_path(directory, name); };
  read_run_json(stage, read_json_file(in_directory("run.json"), run.problems));
  read_metrics(stage, in_directory("metrics.jsonl"), run.problems);
  read_datasets(stage, in_directory("data"), run.problems);
  const OrderedJson checks = read_json_file(in_directory("checks.json"), run.problems);
  for (const OrderedJson& check : items_of(get_or_null(checks, "checks"))) {
    const OrderedJson& passed = get_or_null(check, "passed");
    stage.checks.push_back(
        {get_text(check, "name"), passed.is_boolean() && passed.get<bool>(), text_of(get_or_null(check, "detail"))});
  }
  stage.notes = read_notes(read_json_file(in_directory("notes.json"), run.problems));
  if (stage.status.empty()) stage.status = status_from_files(stage, in_directory("metrics.jsonl"), run.read_at_seconds);
  if (!stage.seconds) stage.seconds = seconds_in_steps(stage);
}

/// True for a name directly in the pipeline's directory. Others are not followed.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.find_first_of({"/\0", 2}) == std::string::npos;
}

}  // namespace

std::optional<double> DatasetSummary::number(const std::string& key) const {
  for (const auto& [number_key, value] : numbers)
    if (number_key == key) return value;
  return std::nullopt;
}

const std::vector<PlotPoint>& StageSummary::metric(const std::string& key) const {
  static const std::vector<PlotPoint> none;
  const auto found = metrics.find(key);
  return found == metrics.end() ? none : found->second;
}

std::optional<double> StageSummary::last(const std::string& key) const {
  const auto& points = metric(key);
  return points.empty() ? std::nullopt : std::optional(points.back().y);
}

std::string StageSummary::option(const std::string& key) const {
  for (const auto& [option_name, value] : options)
    if (option_name == key) return value;
  return "";
}

int64_t StageSummary::last_step() const {
  double step = 0;
  for (const auto& [key, points] : metrics)
    if (!points.empty()) step = std::max(step, points.back().x);
  return static_cast<int64_t>(step);
}

std::string RunSummary::status() const {
  const auto counted = [&](const char* status) {
    return std::count_if(stages.begin(), stages.end(), [&](const StageSummary& s) { return s.status == status; });
  };
  if (counted("failed") > 0) return "failed";
  if (!stages.empty() && counted("done") == std::ssize(stages)) return "done";
  return counted("running") > 0 ? "running" : "unfinished";
}

RunSummary read_run(const std::string& directory) {
  if (!is_directory(directory))
    throw_error<InputOutputError>("{}: expected the directory of a run, got none", directory);
  RunSummary run;
  run.name = name_of_directory(directory);
  run.read_at_seconds = std::time(nullptr);
  const std::string pipeline_path = join_path(directory, "pipeline.json");
  run.is_pipeline = is_regular_file(pipeline_path);
  if (!run.is_pipeline) {
    read_stage(run.stages.emplace_back(), directory, run);
    return run;
  }
  const OrderedJson pipeline = read_json_file(pipeline_path, run.problems);
  run.notes = read_notes(get_or_null(pipeline, "notes"));
  for (const OrderedJson& entry : items_of(get_or_null(pipeline, "stages"))) {
    StageSummary& stage = run.stages.emplace_back();
    stage.name = get_text(entry, "name");
    stage.status = get_text(entry, "status");
    stage.seconds = get_number(entry, "seconds");
    const std::string name = get_text(entry, "directory");
    if (!is_plain_name(name)) continue;
    const std::string stage_directory = join_path(directory, name);
    read_stage(stage, stage_directory, run);
    // a killed job cannot update its status
    if (stage.status == "running" &&
        !was_changed_recently({pipeline_path, join_path(stage_directory, "data"),
                               join_path(stage_directory, "run.json"), join_path(stage_directory, "metrics.jsonl")},
                              run.read_at_seconds))
      stage.status = "unfinished";
  }
  return run;
}

}  // namespace plumb
