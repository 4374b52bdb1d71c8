// The rows of a stage: tokenized, packed with --packing, and for DPO with the log-probabilities of the reference model.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/models/model_setup.hpp"
#include "apps/options/options.hpp"
#include "apps/train/step_source.hpp"
#include "apps/train/trainer.hpp"
#include "io/dataset/batch_stream.hpp"
#include "io/dataset/dataset.hpp"
#include "io/dataset/reference_logps.hpp"
#include "io/huggingface/hf_model.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// A data set for training or evaluation.
struct StageRows {
  std::unique_ptr<Dataset> dataset;
  std::unique_ptr<ReferenceLogps> reference_logps;  // dpo
  std::vector<int64_t> rows_of_items;               // where RowsOptions kept the items of data apart

  /// A micro-batch of these rows; without rows, the empty micro-batch.
  MicroBatch micro_batch(const std::vector<int64_t>& row_numbers) const;
  /// The micro-batches of this rank for steps [first_step, end_step). The rows must outlive the stream.
  std::unique_ptr<BatchStream> stream(const SamplerOptions& sampler, const Communicator& comm, int64_t first_step = 0,
                                      int64_t end_step = BatchStream::kEndless) const;
};

/// How rows become those of a stage.
struct RowsOptions {
  std::string directory;  // of tokenized rows
  TokenizerSource tokenizer;
  RowUse use;
  bool needs_whole_texts;                // pairs that are too long are left out instead of truncated
  std::optional<int64_t> packed_tokens;  // of a packed row; none: a row is an example
  bool keeps_items_apart = false;        // no packed row has examples of two items of data
};

/// Collective: the rows of data.data, tokenized now or by an earlier run. vocab_size: of the model.
StageRows open_rows(const Communicator& comm, const RowsOptions& options, const DataOptions& data, int64_t vocab_size);

/// Collective, for pairs: loads the log-probabilities of the reference model. If they are not stored beside the rows
/// yet, all ranks compute them in float32. The reference model is no longer in memory when this returns.
void add_reference_logps(const Communicator& comm, const ModelSource& reference, StageRows& rows);

/// Collective: the metrics over all rows, in file order. `report` is told from time to time how many rows all ranks
/// have begun.
EvaluationStats evaluate_rows(TrainableModel& model, const Communicator& comm, Objective& objective,
                              const StageRows& rows, int64_t rows_per_micro_batch,
                              const std::function<void(int64_t num_rows)>& report = nullptr);

/// The rows of a stage as the source of its steps. All references must outlive it.
class RowSteps : public StepSource {
 public:
  struct Input {
    TrainableModel& model;
    const Communicator& comm;
    Objective& objective;
    const SamplerOptions& sampler;
    const StageRows& train_rows;
    const StageRows* eval_rows;  // or nullptr
    int64_t eval_rows_per_micro_batch;
  };
  /// first_step: the number of steps that are done.
  RowSteps(const Input& input, int64_t first_step)
      : in_(input), stream_(in_.train_rows.stream(in_.sampler, in_.comm, first_step)) {}

  std::vector<MicroBatch> batches_of(int64_t) override { return stream_->next(); }
  bool has_evaluation() const override { return in_.eval_rows != nullptr; }
  EvaluationStats evaluate(int64_t) override {
    return evaluate_rows(in_.model, in_.comm, in_.objective, *in_.eval_rows, in_.eval_rows_per_micro_batch);
  }
  std::vector<std::string> evaluated_metrics() const override;

 private:
  const Input in_;
  std::unique_ptr<BatchStream> stream_;
};

}  // namespace plumb
