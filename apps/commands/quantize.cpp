// plumb quantize: a copy of a model whose matrices are NF4, as bitsandbytes and transformers store and load them. Each
// rank quantizes its share of the matrices, one at a time.
#include <optional>
#include <string>
#include <vector>

#include "apps/commands/commands.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/options/options.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

struct QuantizeOptions {
  std::string model;
  std::string output_dir;
  bool double_quant = true;
  bool overwrite_output_dir = false;
};

int quantize(const Communicator& comm, const QuantizeOptions& o) {
  std::optional<HfModel> source;
  comm.run_agreed([&] {
    source.emplace(o.model, HfModelOptions{.quantizes = true, .quantizes_scales = o.double_quant});
    if (source->config().is_quantized)
      throw_error<UsageError>("--model {}: expected a model to quantize, got one that is NF4 already", o.model);
  });
  const Nf4ExportPlan plan = export_quantized(
      comm, *source, o.output_dir, o.overwrite_output_dir ? ExistingDirectory::kReplace : ExistingDirectory::kRefuse);
  if (comm.rank() == 0)
    log_info("{}: {} matrices in NF4, {} parameters in {:.1f} MB", o.output_dir, plan.num_quantized,
             plan.num_parameters, static_cast<double>(plan.tensor_bytes) / 1e6);
  return kExitDone;
}

std::vector<BoundOption> bind_options(QuantizeOptions& o) {
  return {declare("model", OptionGroup::kModel, o.model, "directory of the model, in float32, bfloat16 or float16",
                  {.value_name = "DIR"}),
          declare("output_dir", OptionGroup::kOutput, o.output_dir, "directory of the quantized model",
                  {.value_name = "DIR"}),
          declare("double_quant", OptionGroup::kOutput, o.double_quant, "also quantize the scales, to 8 bits"),
          overwrite_option(o.overwrite_output_dir, "replace a model that is already there")};
}

int run_quantize(const QuantizeOptions& o) {
  return run_on_ranks([&](const Communicator& comm) { return quantize(comm, o); });
}

}  // namespace

Command quantize_command() {
  return make_command<QuantizeOptions>({.name = "quantize",
                                        .summary = "a model in NF4, as bitsandbytes stores it",
                                        .usage = "--model DIR --output_dir DIR",
                                        .example = "mpirun -n 4 plumb quantize --model MODEL_DIR --output_dir nf4",
                                        .required = {"model", "output_dir"}},
                                       bind_options, run_quantize);
}

}  // namespace plumb
