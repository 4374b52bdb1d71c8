// plumb evaluate: loss, perplexity, token accuracy and exact match of a model on rows.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/commands.hpp"
#include "apps/model_setup.hpp"
#include "apps/options.hpp"
#include "apps/output_directory.hpp"
#include "apps/trainer.hpp"
#include "io/batch_stream.hpp"
#include "io/prepare.hpp"
#include "io/scratch_directory.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

struct EvaluateOptions {
  ModelOptions model;
  DataOptions data;
  int64_t batch_size = 8;
};

int evaluate(const Communicator& comm, const EvaluateOptions& o) {
  set_up_process(comm, o.model.threads);
  std::optional<HfModel> source;
  comm.run_agreed([&] { source.emplace(o.model.model); });
  const ScratchDirectory scratch(comm);
  const DatasetIndex index = prepare_data(comm,
                                          {.files = o.data.data,
                                           .columns = parse_columns_option(o.data.columns),
                                           .template_name = o.data.chat_template,
                                           .sft = sft_options(o.data),
                                           .model_directory = o.model.model,
                                           .vocab_size = source->config().vocab_size},
                                          scratch.path());
  std::optional<Dataset> opened;
  comm.run_agreed([&] { opened.emplace(dataset_directory(scratch.path(), index), source->config().vocab_size); });
  const Dataset& rows = *opened;
  ShardedModel model(source->config(), comm, {.dtype = parse_dtype(o.model.dtype)});
  load_weights(comm, model, *source);
  BatchStream stream(rows, {.seed = 0, .shuffle = false, .rows_per_micro_batch = o.batch_size}, comm.rank(),
                     comm.size());
  const EvaluationStats stats = evaluate_model(model, comm, stream.steps_per_epoch(), [&] { return stream.next(); });
  if (comm.rank() == 0) {
    const nlohmann::ordered_json line = {{"rows", rows.num_rows()},
                                         {"loss", stats.loss},
                                         {"perplexity", std::exp(stats.loss)},
                                         {"mean_token_accuracy", stats.mean_token_accuracy},
                                         {"exact_match", stats.exact_match},
                                         {"entropy", stats.entropy},
                                         {"num_tokens", stats.num_tokens},
                                         {"num_trained_tokens", stats.num_trained_tokens}};
    fmt::print("{}\n", line.dump());
  }
  return kExitDone;
}

}  // namespace

int run_evaluate(const std::vector<std::string>& arguments) {
  EvaluateOptions options;
  OptionsDescription description("options of plumb evaluate");
  declare(description, options.model);
  declare(description, options.data);
  description.add_options()("per_device_eval_batch_size",
                            boost::program_options::value(&options.batch_size)->default_value(options.batch_size),
                            "rows of a micro-batch");
  if (!parse_options("plumb evaluate --model DIR --data FILE...", description, {"model", "data"}, arguments))
    return kExitDone;
  return run_on_ranks([&](const Communicator& comm) { return evaluate(comm, options); });
}

}  // namespace plumb
