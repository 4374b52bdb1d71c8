// plumb compare: several runs or pipelines side by side, such as the tasks of a sweep.
#include <fmt/format.h>

#include "apps/commands/commands.hpp"
#include "apps/commands/single_rank.hpp"
#include "apps/options/options.hpp"
#include "io/file/atomic_file.hpp"
#include "io/report/compare.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

struct CompareOptions {
  std::vector<std::string> runs;
  std::string html;
};

std::vector<BoundOption> bind_options(CompareOptions& o) {
  return {declare("runs", OptionGroup::kData, o.runs,
                  "directories of runs or pipelines; the option's name may be left out", {.value_name = "DIR"}),
          declare("html", OptionGroup::kOutput, o.html, "also write a page with the curves", {.value_name = "FILE"})};
}

int run_compare(const CompareOptions& o) {
  require_single_rank("compare");
  const std::vector<ComparedRun> runs = read_runs(o.runs);
  fmt::print("{}", render_comparison_text(runs));
  if (!o.html.empty()) write_file_atomically(o.html, render_comparison_page(runs));
  return kExitDone;
}

}  // namespace

Command compare_command() {
  return make_command<CompareOptions>({.name = "compare",
                                       .summary = "results of several runs, and the options that differ",
                                       .usage = "DIR... [--html FILE]",
                                       .example = "plumb compare runs/seed-* --html seeds.html",
                                       .required = {"runs"},
                                       .positional = "runs"},
                                      bind_options, run_compare);
}

}  // namespace plumb
