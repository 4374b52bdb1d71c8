// plumb status: the state of a run or a pipeline, human-readable, as JSON and exit code for scripts and cron, or as a
// view that is drawn again.
#include <fmt/format.h>

#include "apps/commands/commands.hpp"
#include "apps/commands/run_standing.hpp"
#include "apps/commands/single_rank.hpp"
#include "apps/commands/watch.hpp"
#include "apps/options/options.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

struct StatusOptions {
  std::string output_dir;
  bool is_json = false;
  bool watches = false;
};

std::vector<BoundOption> bind_options(StatusOptions& o) {
  return {declare("output_dir", OptionGroup::kOutput, o.output_dir,
                  "directory of a run, of a pipeline, or of several runs; the option's name may be left out",
                  {.value_name = "DIR"}),
          declare("json", OptionGroup::kOutput, o.is_json, "print JSON, for programs"),
          declare("watch", OptionGroup::kOutput, o.watches,
                  "in a terminal: state and curves, drawn again every two seconds until the run ends")};
}

int run_status(const StatusOptions& o) {
  require_single_rank("status");
  if (o.watches && o.is_json) throw UsageError("plumb status: expected --watch or --json, got both");
  if (o.watches) return watch(o.output_dir);
  const Standing standing = standing_of(o.output_dir);
  if (o.is_json) {
    fmt::print("{}\n", standing.json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  } else {
    fmt::print("{}", standing.text);
  }
  return exit_code_of(standing.state);
}

}  // namespace

Command status_command() {
  return make_command<StatusOptions>(
      {.name = "status",
       .summary = "show the state of a run or pipeline (--json for scripts, --watch for a view)",
       .usage = "DIR [--json|--watch]",
       .example = "plumb status run --watch",
       .notes = "Exit code: 0 running or done; 75 stopped, killed or silent (start it again); 70 failed.",
       .required = {"output_dir"},
       .positional = "output_dir"},
      bind_options, run_status);
}

}  // namespace plumb
