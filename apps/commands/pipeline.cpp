// plumb pipeline: sft, reward and dpo in one job, restarted at the unfinished stage.
#include "apps/pipeline/pipeline.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "apps/commands/commands.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "apps/run/stop_request.hpp"
#include "lib/base/check.hpp"

namespace plumb {

static constexpr const char* kUsage = "plumb pipeline FILE.ini";

int run_pipeline(const std::vector<std::string>& arguments) {
  if (std::find(arguments.begin(), arguments.end(), "--help") != arguments.end()) {
    fmt::print(
        "usage: {}\n\n"
        "FILE.ini holds options that all stages share (model and output_dir among them), then a section for each\n"
        "stage to run, with its data and what it has of its own:\n\n"
        "  model = MODEL_DIR\n"
        "  output_dir = run\n\n"
        "  [sft]\n"
        "  data = instructions.jsonl\n\n"
        "  [reward]\n"
        "  data = pairs.jsonl\n\n"
        "  [dpo]\n"
        "  data = pairs.jsonl\n"
        "  beta = 0.2\n\n"
        "plumb sft --help, plumb reward --help and plumb dpo --help list the options. Stages run in this order, each\n"
        "starts from what those before it made, and one that is done is not run again until its inputs change.\n",
        kUsage);
    return kExitDone;
  }
  if (arguments.size() != 1 || arguments[0].starts_with("--"))
    throw_error<UsageError>("expected one file and nothing else, as options stand in it, got \"{}\"; usage: {}",
                            fmt::join(arguments, " "), kUsage);
  const PipelineFile file = read_pipeline_file(arguments[0]);
  plan_pipeline(file);  // says what is wrong before MPI starts
  stop_on_signals();    // also of one that comes while it does
  return run_on_ranks([&](const Communicator& comm) {
    run_stages(comm, file);
    return static_cast<int>(kExitDone);
  });
}

}  // namespace plumb
