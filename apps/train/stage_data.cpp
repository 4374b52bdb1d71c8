#include "apps/train/stage_data.hpp"

#include <fmt/format.h>

#include "apps/models/adapter_setup.hpp"
#include "apps/options/prepare_options.hpp"
#include "io/dataset/content_hash.hpp"
#include "io/dataset/packing_file.hpp"
#include "io/dataset/prepare.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/log.hpp"
#include "lib/objective/dpo.hpp"

namespace plumb {

namespace {

/// Size of a micro-batch for reference log-probabilities. Micro-batches depend on the data alone, so that the stored
/// values do not depend on ranks or options.
constexpr int64_t kReferenceTokens = 4096;

/// The first example of each micro-batch, then the number of examples.
std::vector<int64_t> reference_micro_batches(const Dataset& dataset) {
  constexpr int64_t kExamplesAtOnce = 1 << 16;
  std::vector<int64_t> begins = {0};
  int64_t tokens = 0;
  for (int64_t first = 0; first < dataset.num_examples(); first += kExamplesAtOnce) {
    const int64_t end = std::min(first + kExamplesAtOnce, dataset.num_examples());
    const std::vector<int64_t> lengths = dataset.example_tokens(first, end);
    for (int64_t example = first; example < end; ++example) {
      const int64_t length = lengths[example - first];
      if (tokens > 0 && tokens + length > kReferenceTokens) {
        begins.push_back(example);
        tokens = 0;
      }
      tokens += length;
    }
  }
  begins.push_back(dataset.num_examples());
  return begins;
}

/// Collective: returns on each rank the values of the examples that it computed.
std::vector<ExampleLogps> compute_reference_logps(const Communicator& comm, const ModelSource& reference,
                                                  const Dataset& dataset) {
  std::optional<HfModel> source;
  std::vector<int64_t> begins;
  comm.run_agreed([&] {
    source.emplace(
        reference.model,
        beside_adapter({.head = HeadKind::kLanguageModel, .quantizes = reference.is_quantized}, reference.adapter));
    begins = reference_micro_batches(dataset);
  });
  const std::unique_ptr<AdaptedModel> model =
      load_frozen_model(comm, source->config(), *source, reference.adapter, at::kFloat);
  TokenLossScratch scratch;
  std::vector<ExampleLogps> values;
  const int64_t num_micro_batches = std::ssize(begins) - 1;
  for (int64_t first = 0; first < num_micro_batches; first += comm.size()) {
    const int64_t number = first + comm.rank();
    const bool has_work = number < num_micro_batches;
    const int64_t begin = has_work ? begins[number] : 0;
    const int64_t end = has_work ? begins[number + 1] : 0;
    MicroBatch batch;
    comm.run_agreed([&] {
      if (!has_work) batch = MicroBatch::empty();
      if (has_work) append_rows(batch, dataset.examples(begin, end));
    });
    ForwardPass pass = model->forward(batch, predicting_rows(batch), Pass::evaluation());
    const std::vector<SequenceLogps> logps =
        sequence_logps(pass.hidden_TD(), batch, pass.head(), model->config().output(), scratch);
    pass.finish();
    for (int64_t example = begin; example < end; ++example) {
      const int64_t document = 2 * (example - begin);
      values.push_back({example, logps[document], logps[document + 1]});
    }
  }
  return values;
}

}  // namespace

MicroBatch StageRows::micro_batch(const std::vector<int64_t>& row_numbers) const {
  return make_micro_batch(*dataset, row_numbers, reference_logps.get());
}

std::unique_ptr<BatchStream> StageRows::stream(const SamplerOptions& sampler, const Communicator& comm,
                                               int64_t first_step, int64_t end_step) const {
  return std::make_unique<BatchStream>(*dataset, sampler, comm.rank(), comm.size(), first_step, end_step,
                                       reference_logps.get());
}

StageRows open_rows(const Communicator& comm, const RowsOptions& o, const DataOptions& data, int64_t vocab_size) {
  const DatasetIndex index =
      prepare_data(comm, prepare_options(data, o.use, o.needs_whole_texts, o.tokenizer, vocab_size), o.directory);
  StageRows rows;
  comm.run_agreed([&] { rows.dataset = std::make_unique<Dataset>(dataset_directory(o.directory, index), vocab_size); });
  std::vector<int64_t> examples_of_items;
  if (o.keeps_items_apart) {
    comm.run_agreed([&] { examples_of_items = rows.dataset->examples_of_files(data.files_per_item); });
    rows.rows_of_items = examples_of_items;
  }
  if (!o.packed_tokens) return rows;
  const PackingSetting setting(*o.packed_tokens, examples_of_items);
  ensure_packing(comm, *rows.dataset, setting);
  comm.run_agreed([&] {
    rows.dataset->use_packing(setting);
    if (o.keeps_items_apart) rows.rows_of_items = rows.dataset->rows_of_parts(examples_of_items);
  });
  if (comm.rank() == 0)
    log_info("packing: {} rows of {} tokens, {:.1f} % full", rows.dataset->num_rows(), *o.packed_tokens,
             100 * rows.dataset->fill_share());
  return rows;
}

EvaluationStats evaluate_rows(TrainableModel& model, const Communicator& comm, Objective& objective,
                              const StageRows& rows, int64_t rows_per_micro_batch,
                              const std::function<void(int64_t num_rows)>& report) {
  const SamplerOptions sampler = {.seed = 0, .shuffle = false, .rows_per_micro_batch = rows_per_micro_batch};
  const int64_t rounds = make_step_layout(sampler, rows.dataset->num_rows(), comm.size()).steps_per_epoch();
  const auto start = [&]() -> NextMicroBatches {
    const std::shared_ptr<BatchStream> stream = rows.stream(sampler, comm, 0, rounds);
    return [&, stream, num_rows = int64_t{0}]() mutable {
      if (report) report(num_rows);
      num_rows += rows_per_micro_batch * comm.size();
      return stream->next();
    };
  };
  return evaluate_model(model, comm, objective, rounds, start);
}

std::vector<std::string> RowSteps::evaluated_metrics() const {
  std::vector<std::string> names;
  for (const Metric& metric : in_.objective.metrics(in_.objective.empty_sums(), /*is_evaluation=*/true))
    names.push_back(metric.name);
  return names;
}

void add_reference_logps(const Communicator& comm, const ModelSource& reference, StageRows& rows) {
  std::string model = model_hash(comm, reference.model);
  if (!reference.adapter.empty()) model += fmt::format("-{}", adapter_hash(comm, reference.adapter));
  if (reference.is_quantized) model += "-nf4";
  if (!has_reference_logps(comm, *rows.dataset, model)) {
    const double start_seconds = steady_seconds();
    write_reference_logps(comm, *rows.dataset, model, compute_reference_logps(comm, reference, *rows.dataset));
    release_freed_memory();  // of the reference model, before the model to train is loaded
    if (comm.rank() == 0)
      log_info("reference: log-probabilities of {} pairs in {:.1f} s, stored beside the pairs",
               rows.dataset->num_examples(), steady_seconds() - start_seconds);
  }
  comm.run_agreed([&] { rows.reference_logps = std::make_unique<ReferenceLogps>(*rows.dataset, model); });
}

}  // namespace plumb
