// plumb prepare: rows to HDF5 token shards, by all ranks; the training commands then find them in output_dir/data.
#include <fmt/format.h>

#include "apps/commands/commands.hpp"
#include "apps/options/prepare_options.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "io/dataset/prepare.hpp"
#include "io/huggingface/hf_model.hpp"
#include "lib/base/check.hpp"

namespace plumb {

int run_prepare(const std::vector<std::string>& arguments) {
  DataOptions data;
  std::string model, output_dir;
  OptionsDescription description("options of plumb prepare");
  declare(description, data);
  description.add_options()("model", boost::program_options::value(&model), "directory with the tokenizer")(
      "output_dir", boost::program_options::value(&output_dir), "where the shards go, in a folder named by a hash");
  if (!parse_options("plumb prepare --model DIR --data FILE... --output_dir DIR", description,
                     {"model", "data", "output_dir"}, arguments))
    return kExitDone;
  return run_on_ranks([&](const Communicator& comm) {
    const DatasetIndex index =
        prepare_data(comm, prepare_options(data, RowUse::kAny, /*needs_whole_texts=*/false, model), output_dir);
    if (comm.rank() == 0) {
      nlohmann::ordered_json line = {{"directory", dataset_directory(output_dir, index)}};
      line["statistics"] = to_json(index.statistics);
      fmt::print("{}\n", line.dump(2));
    }
    return static_cast<int>(kExitDone);
  });
}

}  // namespace plumb
