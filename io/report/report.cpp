#include "io/report/report.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/report/parts.hpp"
#include "io/report/stage.hpp"
#include "io/report/text.hpp"

namespace plumb {
namespace {

constexpr size_t kMaxWarnings = 100;
constexpr size_t kMaxFigures = 10;
constexpr double kLeastEosShare = 0.9;

std::string stage_id(size_t index) { return fmt::format("stage-{}", index); }

/// The last component of a path, as the name of a model.
std::string last_component(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path.substr(path.find_last_of('/') + 1);
}

std::string plural(int64_t count, const char* noun) {
  return fmt::format("{} {}{}", render_count(count), noun, count == 1 ? "" : "s");
}

/// The first stage that has started, for the ranks and hardware of the run.
const StageSummary* first_started(const RunSummary& run) {
  for (const StageSummary& stage : run.stages)
    if (stage.num_ranks > 0) return &stage;
  return nullptr;
}

std::string describe_run(const RunSummary& run) {
  const StageSummary* stage = first_started(run);
  if (stage == nullptr) return "Nothing has been written about this run yet.";
  std::string text = "<b>" + escape_html(last_component(stage->option("model")), 200) + "</b>";
  const auto parameters = stage->plan.find("num_parameters");
  if (parameters != stage->plan.end()) text += fmt::format(", {} parameters", render_magnitude(parameters->second));
  text += fmt::format(", on {}, {}, {} each", plural(stage->num_ranks, "rank"), plural(stage->num_nodes, "node"),
                      plural(stage->threads_per_rank, "thread"));
  if (!stage->option("dtype").empty()) text += ", " + escape_html(stage->option("dtype"), 40);
  if (!stage->instruction_set.empty())
    text += " with <span class=\"word\">" + escape_html(stage->instruction_set, 40) + "</span>";
  return text + ".";
}

/// The name ("sft_train.jsonl") of each file that some stage trained on.
std::string describe_data(const RunSummary& run) {
  std::vector<std::string> names;
  for (const StageSummary& stage : run.stages) {
    const std::string data = stage.option("data");
    for (size_t begin = 0; begin < data.size();) {
      const size_t end = std::min(data.find(' ', begin), data.size());
      const std::string name = last_component(data.substr(begin, end - begin));
      if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      begin = end + 1;
    }
  }
  if (names.empty()) return "";
  const size_t num_more = names.size() > 4 ? names.size() - 4 : 0;
  names.resize(std::min<size_t>(names.size(), 4));
  return fmt::format("Trained on {}{}.", escape_html(fmt::format("{}", fmt::join(names, ", ")), 300),
                     num_more > 0 ? fmt::format(" and {} more files", num_more) : "");
}

void add_win_rates(const NotesSummary& notes, std::vector<KeyFigure>& figures) {
  for (const auto& [name, value] : notes.facts) {
    std::string lower = readable_name(name);
    std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    if (lower.find("win rate") != std::string::npos)
      figures.push_back({readable_name(name), render_fact(name, value), ""});
  }
}

std::vector<KeyFigure> headline(const RunSummary& run) {
  std::vector<KeyFigure> figures;
  double seconds = 0;
  for (const StageSummary& stage : run.stages) {
    std::vector<KeyFigure> of_stage = key_figures(stage);
    // with several stages, two figures each, so that every stage has room
    if (run.stages.size() > 1) of_stage.resize(std::min<size_t>(of_stage.size(), 2));
    figures.insert(figures.end(), of_stage.begin(), of_stage.end());
    add_win_rates(stage.notes, figures);
    seconds += stage.seconds.value_or(0);
  }
  add_win_rates(run.notes, figures);
  figures.resize(std::min(figures.size(), kMaxFigures));
  if (seconds > 0) figures.push_back({"Time", render_seconds(seconds), ""});
  return figures;
}

std::vector<std::string> warnings_of(const RunSummary& run) {
  std::vector<std::string> warnings;
  for (const StageSummary& stage : run.stages) {
    const std::string where = run.stages.size() > 1 ? stage_title(stage.name) + ": " : "";
    for (const char* key : {"loss", "grad_norm", "eval_loss"}) {
      const auto& points = stage.metric(key);
      const auto bad =
          std::find_if(points.begin(), points.end(), [](const PlotPoint& p) { return !std::isfinite(p.y); });
      if (bad != points.end()) warnings.push_back(fmt::format("{}{} is not finite at step {:.0f}", where, key, bad->x));
    }
    for (const DatasetSummary& dataset : stage.datasets) {
      const double share = dataset.number("share_ending_in_trained_eos").value_or(1);
      if (stage.name == "sft" && share < kLeastEosShare && dataset.number("rows_kept").value_or(0) > 0)
        warnings.push_back(
            fmt::format("{}{}: only {} end in a trained end-of-sequence token; the model may not learn to "
                        "stop",
                        where, dataset.name, render_share(share)));
    }
    for (const CheckSummary& check : stage.checks)
      if (!check.has_passed) warnings.push_back(fmt::format("{}check failed: {}", where, check.name));
    for (const std::string& warning : stage.notes.warnings) warnings.push_back(where + warning);
  }
  warnings.insert(warnings.end(), run.notes.warnings.begin(), run.notes.warnings.end());
  warnings.insert(warnings.end(), run.problems.begin(), run.problems.end());
  return warnings;
}

std::string render_warnings(const std::vector<std::string>& warnings) {
  if (warnings.empty()) return "";
  std::string out = "<section id=\"warnings\"><h2>Warnings</h2><ul class=\"plain\">";
  for (size_t i = 0; i < warnings.size() && i < kMaxWarnings; ++i)
    out += "<li>" + escape_html(warnings[i], 600) + "</li>";
  if (warnings.size() > kMaxWarnings) out += fmt::format("<li>and {} more</li>", warnings.size() - kMaxWarnings);
  return out + "</ul></section>\n";
}

std::string render_checks_line(const RunSummary& run, size_t num_warnings) {
  size_t num_checks = 0, num_passed = 0;
  for (const StageSummary& stage : run.stages) {
    num_checks += stage.checks.size();
    num_passed += static_cast<size_t>(
        std::count_if(stage.checks.begin(), stage.checks.end(), [](const auto& check) { return check.has_passed; }));
  }
  std::string out;
  if (num_checks > 0)
    out += fmt::format("<span class=\"{}\">{} of {} checks passed</span>",
                       num_passed == num_checks ? "passed" : "failed", num_passed, num_checks);
  if (num_warnings > 0)
    out += fmt::format("{}<a href=\"#warnings\">{}</a>", out.empty() ? "" : " \u00b7 ",
                       plural(static_cast<int64_t>(num_warnings), "warning"));
  return out.empty() ? "" : "<p>" + out + "</p>\n";
}

/// One line per stage, if there are several.
std::string render_stage_list(const RunSummary& run) {
  if (run.stages.size() < 2) return "";
  std::string out =
      "<h3>Stages</h3><div class=\"scroll\"><table "
      "class=\"wide\"><tr><th>Stage</th><th>Status</th><th>Progress</th></tr>";
  for (size_t i = 0; i < run.stages.size(); ++i) {
    const StageSummary& stage = run.stages[i];
    out += fmt::format("<tr><td><a href=\"#{}\">{}</a></td><td class=\"{}\">{}</td><td>{}</td></tr>", stage_id(i),
                       escape_html(stage_title(stage.name), 80), escape_html(stage.status, 20),
                       escape_html(stage.status, 20), escape_html(describe_progress(stage)));
  }
  return out + "</table></div>\n";
}

std::string render_options(const RunSummary& run) {
  std::string out;
  for (const StageSummary& stage : run.stages) {
    if (stage.options.empty()) continue;
    TableSummary table{"", {"Option", "Value"}, {}};
    for (const auto& [name, value] : stage.options) table.rows.push_back({name, value.empty() ? "\u2013" : value});
    out += fmt::format("<details><summary>Options of {}</summary>{}</details>\n",
                       escape_html(stage.name.empty() ? "the run" : stage.name, 80), render_table(table));
  }
  return out.empty() ? "" : "<section id=\"options\"><h2>Options</h2>" + out + "</section>\n";
}

std::string render_footer(const RunSummary& run) {
  std::set<std::string> versions;
  for (const StageSummary& stage : run.stages)
    if (!stage.version.empty()) versions.insert(stage.version);
  return fmt::format("<footer>Written by plumb {} on {:%Y-%m-%d at %H:%M} UTC.</footer>\n",
                     escape_html(fmt::format("{}", fmt::join(versions, ", ")), 60), fmt::gmtime(run.read_at_seconds));
}

}  // namespace

std::string render_report(const RunSummary& run) {
  const std::string name = escape_html(run.name, 200);
  const std::string status = run.status();
  const std::string kind = run.stages.size() == 1 ? stage_title(run.stages[0].name) : "Pipeline";
  const std::vector<std::string> warnings = warnings_of(run);
  std::string page = fmt::format("<header><p class=\"kicker\">{} \u00b7 <span class=\"{}\">{}</span></p><h1>{}</h1>\n",
                                 escape_html(kind, 80), status, status, name);
  page += "<p>" + describe_run(run) + " " + describe_data(run) + "</p>\n";
  page += render_checks_line(run, warnings.size()) + render_figures(headline(run)) + "</header>\n";
  page += render_stage_list(run);
  page += render_findings(run.notes);
  for (size_t i = 0; i < run.stages.size(); ++i) page += render_stage(run.stages[i], stage_id(i));
  if (!run.notes.samples.empty()) page += "<section>" + render_samples(run.notes.samples) + "</section>\n";
  page += render_warnings(warnings) + render_options(run) + render_footer(run);
  return render_page(run.name, page, /*is_unfinished=*/status == "running");
}

std::string write_report(const std::string& directory) {
  const std::string path = join_path(directory, "report.html");
  write_file_atomically(path, render_report(read_run(directory)));
  return path;
}

}  // namespace plumb
