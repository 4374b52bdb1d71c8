#include "io/report/compare.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

#include "io/report/parts.hpp"
#include "io/report/stage.hpp"
#include "io/report/svg_plot.hpp"
#include "io/report/text.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

constexpr size_t kMaxCurves = 5;      // svg_plot.hpp has that many colors
constexpr size_t kMaxCellBytes = 40;  // of an option in the text
constexpr const char* kNothing = "-";

/// The metrics that are compared, in the order of the columns; of each, the value on held-out rows where a run has it.
struct ComparedMetric {
  const char* key;
  bool is_better_low;
  bool is_share;
};
constexpr ComparedMetric kMetrics[] = {{"loss", true, false},
                                       {"mean_token_accuracy", false, true},
                                       {"exact_match", false, true},
                                       {"accuracy", false, true},
                                       {"margin", false, false},
                                       {"rewards/accuracies", false, true},
                                       {"rewards/margins", false, false}};

/// A stage of one of the runs; stage: null where this run has none.
struct StageOfRun {
  const ComparedRun* run;
  const StageSummary* stage;
};
using Stages = std::vector<StageOfRun>;

Stages stages_named(const std::vector<ComparedRun>& runs, const std::string& name) {
  Stages stages;
  for (const ComparedRun& run : runs) {
    stages.push_back({&run, nullptr});
    for (const StageSummary& stage : run.summary.stages)
      if (stage.name == name) stages.back().stage = &stage;
  }
  return stages;
}

std::vector<std::string> names_of_stages(const std::vector<ComparedRun>& runs) {
  std::vector<std::string> names;
  for (const ComparedRun& run : runs)
    for (const StageSummary& stage : run.summary.stages)
      if (std::find(names.begin(), names.end(), stage.name) == names.end()) names.push_back(stage.name);
  return names;
}

/// A path below the run's own directory, which differs in every run, without it.
std::string own_path_removed(const ComparedRun& run, const StageSummary& stage, std::string value) {
  std::string own = stage.option("output_dir");
  if (run.summary.is_pipeline) own = own.substr(0, own.find_last_of('/'));
  if (own.empty() || !value.starts_with(own + "/")) return value;
  return "..." + value.substr(own.size());
}

TableSummary differing_options(const Stages& stages) {
  std::vector<std::string> names;
  for (const StageOfRun& of : stages)
    if (of.stage != nullptr)
      for (const auto& [name, value] : of.stage->options)
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  TableSummary table{"", {"run"}, {}};
  for (const StageOfRun& of : stages) table.rows.push_back({of.run->name});
  for (const std::string& name : names) {
    if (name == "output_dir" || name == "overwrite_output_dir") continue;
    std::vector<std::string> column;
    std::set<std::string> values;
    for (const StageOfRun& of : stages) {
      column.push_back(of.stage ? own_path_removed(*of.run, *of.stage, of.stage->option(name)) : kNothing);
      if (of.stage && !of.stage->options.empty()) values.insert(column.back());
    }
    if (values.size() < 2) continue;
    table.columns.push_back(name);
    for (size_t i = 0; i < stages.size(); ++i) table.rows[i].push_back(column[i].empty() ? kNothing : column[i]);
  }
  return table;
}

std::vector<PlotPoint> finite(const std::vector<PlotPoint>& points) {
  std::vector<PlotPoint> kept;
  std::copy_if(points.begin(), points.end(), std::back_inserter(kept),
               [](const PlotPoint& point) { return std::isfinite(point.y); });
  return kept;
}

PlotPoint best_of(const std::vector<PlotPoint>& points, bool is_better_low) {
  return *std::min_element(points.begin(), points.end(), [&](const PlotPoint& a, const PlotPoint& b) {
    return is_better_low ? a.y < b.y : a.y > b.y;
  });
}

std::string render_value(const ComparedMetric& metric, double value) {
  return metric.is_share ? render_share(value) : fmt::format("{:.4f}", value);
}

/// "eval_loss" if some run has it, else "loss"; "": none has either.
std::string key_in_use(const Stages& stages, const ComparedMetric& metric) {
  for (const std::string& key : {std::string("eval_") + metric.key, std::string(metric.key)})
    for (const StageOfRun& of : stages)
      if (of.stage && !finite(of.stage->metric(key)).empty()) return key;
  return "";
}

/// The last step that all runs with steps have reached; 0 if they have the same number of steps.
double common_step(const Stages& stages) {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (const StageOfRun& of : stages) {
    const auto step = of.stage ? static_cast<double>(of.stage->last_step()) : 0;
    if (step <= 0) continue;
    least = std::min(least, step);
    most = std::max(most, step);
  }
  return most > 0 && least < most ? least : 0;
}

/// The last value up to a step.
std::optional<double> value_at(const std::vector<PlotPoint>& points, double step) {
  std::optional<double> value;
  for (const PlotPoint& point : points)
    if (point.x <= step) value = point.y;
  return value;
}

void add_metric(TableSummary& table, const Stages& stages, const ComparedMetric& metric) {
  const std::string key = key_in_use(stages, metric);
  if (key.empty()) return;
  const double common = std::string_view(metric.key) == "loss" ? common_step(stages) : 0;
  const bool has_best = key.starts_with("eval_");
  table.columns.push_back(key);
  if (common > 0) table.columns.push_back(fmt::format("at step {:.0f}", common));
  if (has_best) table.columns.push_back("best (step)");
  for (size_t i = 0; i < stages.size(); ++i) {
    const auto points = stages[i].stage ? finite(stages[i].stage->metric(key)) : std::vector<PlotPoint>();
    std::vector<std::string>& row = table.rows[i];
    row.push_back(points.empty() ? kNothing : render_value(metric, points.back().y));
    const auto at_common = value_at(points, common);
    if (common > 0) row.push_back(at_common ? render_value(metric, *at_common) : kNothing);
    if (!has_best) continue;
    const PlotPoint best = points.empty() ? PlotPoint{} : best_of(points, metric.is_better_low);
    row.push_back(points.empty() ? kNothing : fmt::format("{} ({:.0f})", render_value(metric, best.y), best.x));
  }
}

std::string steps_of(const StageSummary& stage) {
  const int64_t step = stage.last_step();
  if (stage.num_steps > 0 && step != stage.num_steps) return fmt::format("{} of {}", step, stage.num_steps);
  return fmt::format("{}", step);
}

TableSummary results(const Stages& stages) {
  TableSummary table{"", {"run", "status", "steps"}, {}};
  for (const auto& [run, stage] : stages)
    table.rows.push_back({run->name, stage ? stage->status : "no such stage", stage ? steps_of(*stage) : kNothing});
  for (const ComparedMetric& metric : kMetrics) add_metric(table, stages, metric);
  table.columns.insert(table.columns.end(), {"time", "tokens/s"});
  for (size_t i = 0; i < stages.size(); ++i) {
    const StageSummary* stage = stages[i].stage;
    const auto speed = stage ? finite(stage->metric("tokens_per_second")) : std::vector<PlotPoint>();
    table.rows[i].push_back(stage && stage->seconds ? render_seconds(*stage->seconds) : kNothing);
    table.rows[i].push_back(speed.empty() ? kNothing : fmt::format("{:.0f}", speed.back().y));
  }
  return table;
}

/// Runs by their best value of the first metric that any has, best first; those without one last.
Stages ranked(const Stages& stages, const ComparedMetric& metric, const std::string& key) {
  const auto rank = [&](const StageOfRun& of) {
    const auto points = of.stage ? finite(of.stage->metric(key)) : std::vector<PlotPoint>();
    if (points.empty()) return std::numeric_limits<double>::infinity();
    const double value = key.starts_with("eval_") ? best_of(points, metric.is_better_low).y : points.back().y;
    return metric.is_better_low ? value : -value;
  };
  Stages sorted = stages;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](const StageOfRun& a, const StageOfRun& b) { return rank(a) < rank(b); });
  return sorted;
}

std::vector<std::string> remarks_on(const Stages& stages) {
  std::vector<std::string> remarks;
  for (const ComparedMetric& metric : kMetrics) {
    const std::string key = key_in_use(stages, metric);
    if (key.empty()) continue;
    const StageOfRun best = ranked(stages, metric, key).front();
    const auto points = finite(best.stage->metric(key));
    const PlotPoint value = key.starts_with("eval_") ? best_of(points, metric.is_better_low) : points.back();
    remarks.push_back(
        fmt::format("best {}: {}, {} at step {:.0f}", key, best.run->name, render_value(metric, value.y), value.x));
  }
  std::vector<std::string> unfinished;
  for (const auto& [run, stage] : stages)
    if (stage && stage->status != "done") unfinished.push_back(fmt::format("{} ({})", run->name, stage->status));
  if (!unfinished.empty()) remarks.push_back(fmt::format("not finished: {}", fmt::join(unfinished, ", ")));
  if (const double step = common_step(stages); step > 0)
    remarks.push_back(fmt::format("unequal numbers of steps; all runs have step {:.0f}", step));
  return remarks;
}

std::string shortened(const std::string& cell) {
  if (cell.size() <= kMaxCellBytes) return cell;
  size_t end = kMaxCellBytes - 3;
  while (end > 0 && (static_cast<unsigned char>(cell[end]) & 0xC0) == 0x80) --end;  // not within a character
  return cell.substr(0, end) + "...";
}

size_t num_characters(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string render_columns(const TableSummary& table) {
  std::vector<std::vector<std::string>> lines = {table.columns};
  lines.insert(lines.end(), table.rows.begin(), table.rows.end());
  std::vector<size_t> widths(table.columns.size());
  for (auto& line : lines)
    for (size_t i = 0; i < line.size(); ++i) {
      line[i] = shortened(line[i]);
      widths[i] = std::max(widths[i], num_characters(line[i]));
    }
  std::string text;
  for (const auto& line : lines) {
    std::string row;
    for (size_t i = 0; i < line.size(); ++i)
      row += "  " + line[i] + std::string(widths[i] - num_characters(line[i]), ' ');
    text += row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

std::string render_curves(const Stages& stages) {
  std::string plots;
  for (const ComparedMetric& metric : kMetrics)
    for (const std::string& key : {std::string(metric.key), std::string("eval_") + metric.key}) {
      LinePlot plot;
      plot.title = readable_name(key);
      plot.is_share = metric.is_share;
      const Stages sorted = ranked(stages, metric, key);
      for (const auto& [run, stage] : sorted) {
        if (!stage || finite(stage->metric(key)).empty() || plot.series.size() == kMaxCurves) continue;
        plot.series.push_back({run->name, stage->metric(key), key.starts_with("eval_"), {}});
      }
      if (stages.size() > kMaxCurves && plot.series.size() == kMaxCurves) plot.title += ", the five best runs";
      plots += render_line_plot(plot);
    }
  return plots.empty() ? "" : "<div class=\"plots\">" + plots + "</div>\n";
}

/// The shortest endings of the paths, in whole parts, that are all different; the paths themselves if none are.
std::vector<std::string> short_names(const std::vector<std::string>& paths) {
  for (int parts = 1; parts <= 4; ++parts) {
    std::vector<std::string> names;
    for (const std::string& path : paths) {
      size_t begin = path.size();
      for (int i = 0; i < parts && begin != std::string::npos && begin > 0; ++i) begin = path.rfind('/', begin - 1);
      names.push_back(begin == std::string::npos ? path : path.substr(begin + 1));
    }
    if (std::set(names.begin(), names.end()).size() == names.size()) return names;
  }
  return paths;
}

}  // namespace

std::vector<ComparedRun> read_runs(const std::vector<std::string>& directories) {
  std::vector<std::string> paths;
  for (const std::string& directory : directories) {
    std::error_code error;
    const std::string path = std::filesystem::canonical(directory, error).string();
    paths.push_back(error ? directory : path);
    if (std::count(paths.begin(), paths.end(), paths.back()) > 1)
      throw_error<UsageError>("{}: expected runs that differ, got it twice", directory);
  }
  const std::vector<std::string> names = short_names(paths);
  std::vector<ComparedRun> runs;
  for (size_t i = 0; i < directories.size(); ++i) {
    runs.push_back({names[i], read_run(directories[i])});
    const RunSummary& summary = runs.back().summary;
    const bool is_run =
        summary.is_pipeline || !summary.stages.front().options.empty() || !summary.stages.front().metrics.empty();
    if (!is_run)
      throw_error<InputOutputError>(
          "{}: expected the directory of a run or pipeline, found no run.json and no "
          "pipeline.json",
          directories[i]);
  }
  return runs;
}

std::vector<StageComparison> compare_stages(const std::vector<ComparedRun>& runs) {
  std::vector<StageComparison> comparisons;
  for (const std::string& name : names_of_stages(runs)) {
    const Stages stages = stages_named(runs, name);
    comparisons.push_back({name, differing_options(stages), results(stages), remarks_on(stages)});
  }
  return comparisons;
}

std::string render_comparison_text(const std::vector<ComparedRun>& runs) {
  std::string text;
  for (const StageComparison& comparison : compare_stages(runs)) {
    text += fmt::format("{}{}\n{}", text.empty() ? "" : "\n", stage_title(comparison.stage),
                        render_columns(comparison.results));
    for (const std::string& remark : comparison.remarks) text += fmt::format("  {}\n", remark);
    text += comparison.options.columns.size() > 1 ? "options that differ\n" + render_columns(comparison.options)
                                                  : "no option differs\n";
  }
  for (const ComparedRun& run : runs)
    for (const std::string& problem : run.summary.problems) text += fmt::format("warning: {}\n", problem);
  return text;
}

std::string render_comparison_page(const std::vector<ComparedRun>& runs) {
  std::string body = fmt::format("<header><p class=\"kicker\">Comparison</p><h1>{} runs</h1></header>\n", runs.size());
  for (const StageComparison& comparison : compare_stages(runs)) {
    body += fmt::format("<section><h2>{}</h2>\n", escape_html(stage_title(comparison.stage), 80));
    body += "<h3>Results</h3>" + render_table(comparison.results);
    for (const std::string& remark : comparison.remarks)
      body += "<p class=\"quiet\">" + escape_html(remark, 600) + "</p>";
    body += comparison.options.columns.size() > 1 ? "<h3>Options that differ</h3>" + render_table(comparison.options)
                                                  : "<p>No option differs.</p>";
    body += render_curves(stages_named(runs, comparison.stage)) + "</section>\n";
  }
  std::string problems;
  for (const ComparedRun& run : runs)
    for (const std::string& problem : run.summary.problems) problems += "<li>" + escape_html(problem, 600) + "</li>";
  if (!problems.empty()) body += "<section><h2>Warnings</h2><ul class=\"plain\">" + problems + "</ul></section>\n";
  return render_page("Comparison", body);
}

}  // namespace plumb
