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

}  // namespace

int run_quantize(const std::vector<std::string>& arguments) {
  namespace po = boost::program_options;
  QuantizeOptions o;
  OptionsDescription description("options of plumb quantize");
  auto add = description.add_options();
  add("model", po::value(&o.model), "directory of the model, in float32, bfloat16 or float16");
  add("output_dir", po::value(&o.output_dir), "where the quantized model is written");
  add("double_quant", po::value(&o.double_quant)->default_value(true, "true"), "quantize the scales too, to 8 bits");
  add("overwrite_output_dir", po::value(&o.overwrite_output_dir)->default_value(false, "false"),
      "replace a model that is there");
  if (!parse_options("plumb quantize --model DIR --output_dir DIR", description, {"model", "output_dir"}, arguments))
    return kExitDone;
  return run_on_ranks([&](const Communicator& comm) { return quantize(comm, o); });
}

}  // namespace plumb
