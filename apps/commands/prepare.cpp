// plumb prepare: rows to HDF5 token shards, by all ranks; the training commands then find them in output_dir/data.
#include <fmt/format.h>

#include "apps/commands/commands.hpp"
#include "apps/options/prepare_options.hpp"
#include "apps/run/data_files.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "io/dataset/prepare.hpp"
#include "io/huggingface/hf_model.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

struct PrepareCommand {
  DataOptions data;
  std::string model, output_dir;
};

std::vector<BoundOption> bind_options(PrepareCommand& o) {
  std::vector<BoundOption> options = plumb::bind_options(o.data);
  append(options,
         {declare("model", OptionGroup::kModel, o.model, "directory with the tokenizer", {.value_name = "DIR"}),
          declare("output_dir", OptionGroup::kOutput, o.output_dir,
                  "directory for the shards, which are in a folder of it named by a hash", {.value_name = "DIR"})});
  return options;
}

int run_prepare(const PrepareCommand& o) {
  return run_on_ranks([&](const Communicator& comm) {
    const DatasetIndex index = prepare_data(
        comm, prepare_options(with_files(comm, o.data), RowUse::kAny, /*needs_whole_texts=*/false, {o.model}),
        o.output_dir);
    if (comm.rank() == 0) {
      nlohmann::ordered_json line = {{"directory", dataset_directory(o.output_dir, index)}};
      line["statistics"] = to_json(index.statistics);
      fmt::print("{}\n", line.dump(2));
    }
    return static_cast<int>(kExitDone);
  });
}

}  // namespace

Command prepare_command() {
  return make_command<PrepareCommand>({.name = "prepare",
                                       .summary = "tokenize rows into HDF5 shards",
                                       .usage = "--model DIR --data FILE... --output_dir DIR",
                                       .example = "mpirun -n 8 plumb prepare --model MODEL_DIR --data rows.jsonl "
                                                  "--output_dir run/data",
                                       .required = {"model", "data", "output_dir"}},
                                      bind_options, run_prepare);
}

}  // namespace plumb
