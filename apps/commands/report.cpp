// plumb report: the report of a run, anew from what lies in its directory, also while the run goes on.
#include <fmt/format.h>

#include "apps/commands/commands.hpp"
#include "apps/commands/single_rank.hpp"
#include "apps/options/options.hpp"
#include "io/report/report.hpp"
#include "lib/base/check.hpp"

namespace plumb {

int run_report(const std::vector<std::string>& arguments) {
  std::string directory;
  OptionsDescription description("options of plumb report");
  description.add_options()("output_dir", boost::program_options::value(&directory),
                            "directory of a run or pipeline; the option's name may be left out");
  std::vector<std::string> named = arguments;
  if (!named.empty() && !named[0].starts_with("-")) named.insert(named.begin(), "--output_dir");
  if (!parse_options("plumb report DIR", description, {"output_dir"}, named)) return kExitDone;
  require_single_rank("report");
  fmt::print("{}\n", write_report(directory));
  return kExitDone;
}

}  // namespace plumb
