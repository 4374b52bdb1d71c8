// The rows of a stage: tokenized, packed where that is asked for, and for DPO with what the reference model makes of
// them.
#pragma once

#include <memory>
#include <string>

#include "apps/models/model_setup.hpp"
#include "apps/options/train_options.hpp"
#include "apps/train/trainer.hpp"
#include "io/dataset/batch_stream.hpp"
#include "io/dataset/dataset.hpp"
#include "io/dataset/reference_logps.hpp"
#include "io/huggingface/hf_model.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// One set of rows.
struct StageRows {
  std::unique_ptr<Dataset> dataset;
  std::unique_ptr<ReferenceLogps> reference_logps;  // dpo

  /// Rows laid end to end; without rows, the empty micro-batch.
  MicroBatch micro_batch(const std::vector<int64_t>& row_numbers) const;
  /// The stream of a rank, of steps [first_step, end_step). The rows must outlive it.
  std::unique_ptr<BatchStream> stream(const SamplerOptions& sampler, const Communicator& comm, int64_t first_step = 0,
                                      int64_t end_step = BatchStream::kEndless) const;
};

/// How the rows of training are shared among steps.
SamplerOptions sampler_options(const TrainOptions& options);

/// Collective: the rows of data.data, tokenized now or by an earlier run into options.output_dir/data.
StageRows open_rows(const Communicator& comm, const TrainOptions& options, const DataOptions& data,
                    const ModelConfig& config);

/// Collective, of pairs: computes the log-probabilities that a reference model gives them, in float32 and shared among
/// all ranks, unless they are stored beside the rows already; no second model is in memory when this returns.
void add_reference_logps(const Communicator& comm, const ModelSource& reference, StageRows& rows);

/// Collective: metrics over all rows, in file order.
EvaluationStats evaluate_rows(TrainableModel& model, const Communicator& comm, Objective& objective,
                              const StageRows& rows, int64_t rows_per_micro_batch);

}  // namespace plumb
