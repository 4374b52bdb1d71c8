// plumb pipeline: sft, reward and dpo in one job, restarted at the unfinished stage.
#include "apps/pipeline/pipeline.hpp"

#include "apps/commands/commands.hpp"
#include "apps/options/pipeline_file.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "apps/run/stop_request.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

struct PipelineOptions {
  std::string file;
};

std::vector<BoundOption> bind_options(PipelineOptions& o) {
  return {declare("file", OptionGroup::kData, o.file, "the file; the option's name may be left out",
                  {.value_name = "FILE"})};
}

int run_pipeline(const PipelineOptions& o) {
  const PipelineFile file = read_pipeline_file(o.file);
  plan_pipeline(file);  // refuses bad options before MPI starts
  stop_on_signals();    // also one that comes while MPI starts
  return run_on_ranks([&](const Communicator& comm) {
    run_stages(comm, file);
    return static_cast<int>(kExitDone);
  });
}

constexpr const char* kNotes =
    "FILE.ini has the options that all stages share (model and output_dir among them), then a section\n"
    "for each stage to run, with its data and its own options:\n\n"
    "  model = MODEL_DIR\n"
    "  output_dir = run\n\n"
    "  [sft]\n"
    "  data = instructions.jsonl\n\n"
    "  [reward]\n"
    "  data = pairs.jsonl\n\n"
    "  [dpo]\n"
    "  data = pairs.jsonl\n"
    "  beta = 0.2\n\n"
    "plumb sft --help, plumb reward --help and plumb dpo --help list the options. Stages run in this\n"
    "order. Each starts from the results of those before it, and a complete one runs again only if its\n"
    "inputs change.";

}  // namespace

Command pipeline_command() {
  return make_command<PipelineOptions>({.name = "pipeline",
                                        .summary = "sft, reward and dpo in one job, restarted at the unfinished stage",
                                        .usage = "FILE.ini",
                                        .example = "mpirun -n 4 plumb pipeline align.ini",
                                        .notes = kNotes,
                                        .required = {"file"},
                                        .positional = "file"},
                                       bind_options, run_pipeline);
}

}  // namespace plumb
