// plumb report: writes the report of a run again from the files in its directory, also while the run is running.
#include <fmt/format.h>

#include "apps/commands/commands.hpp"
#include "apps/commands/single_rank.hpp"
#include "apps/options/options.hpp"
#include "io/report/report.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

struct ReportOptions {
  std::string output_dir;
};

std::vector<BoundOption> bind_options(ReportOptions& o) {
  return {declare("output_dir", OptionGroup::kOutput, o.output_dir,
                  "directory of a run or pipeline; the option's name may be left out", {.value_name = "DIR"})};
}

int run_report(const ReportOptions& o) {
  require_single_rank("report");
  fmt::print("{}\n", write_report(o.output_dir));
  return kExitDone;
}

}  // namespace

Command report_command() {
  return make_command<ReportOptions>({.name = "report",
                                      .summary = "write report.html of a run, also while it is running",
                                      .usage = "DIR",
                                      .example = "plumb report run",
                                      .required = {"output_dir"},
                                      .positional = "output_dir"},
                                     bind_options, run_report);
}

}  // namespace plumb
