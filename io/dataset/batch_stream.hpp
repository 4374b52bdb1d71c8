// The micro-batches of one rank, step after step, read ahead on a thread. Micro-batch a of rank r is number
// a * ranks + r of the step, so the rows of a step and their order do not depend on the number of ranks.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <limits>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "io/dataset/dataset.hpp"
#include "io/dataset/reference_logps.hpp"
#include "io/dataset/sampler.hpp"
#include "lib/model/batch.hpp"

namespace plumb {

/// Appends a row. The prompt that the two texts of a pair begin with is stored once.
void append_rows(MicroBatch& batch, const TokenRows& rows);

/// Rows concatenated in this order, with their reference log-probabilities where given. Without rows, a single
/// document of one untrained token, which weighs nothing.
MicroBatch make_micro_batch(const Dataset& dataset, const std::vector<int64_t>& rows,
                            const ReferenceLogps* reference_logps = nullptr);

class BatchStream {
 public:
  static constexpr int64_t kEndless = std::numeric_limits<int64_t>::max();

  /// Steps [first_step, end_step), counted from the first of the first epoch; an evaluation set is read once with its
  /// steps_per_epoch as the end. Dataset and reference log-probabilities (nullptr: none) must outlive the stream.
  /// Throws UsageError where the options leave no step.
  BatchStream(const Dataset& dataset, const SamplerOptions& options, int rank, int num_ranks, int64_t first_step = 0,
              int64_t end_step = kEndless, const ReferenceLogps* reference_logps = nullptr);
  /// Stops reading after the current row.
  ~BatchStream();
  BatchStream(const BatchStream&) = delete;
  BatchStream& operator=(const BatchStream&) = delete;

  /// This rank's accumulation_steps micro-batches of the next step; after the last of an epoch follows the next epoch.
  /// Throws what reading threw, on every call. Must not be called at end_step.
  std::vector<MicroBatch> next();

  int64_t steps_per_epoch() const { return layout_.steps_per_epoch(); }
  bool has_next() const { return next_step_ < end_step_; }

 private:
  void read_ahead(const std::stop_token& stop);

  const Dataset& dataset_;
  const ReferenceLogps* reference_logps_;
  SamplerOptions options_;
  StepLayout layout_;
  int rank_;
  int num_ranks_;
  int64_t next_step_;
  int64_t end_step_;
  int64_t next_step_to_read_;  // the thread's alone
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::vector<MicroBatch>> ready_;
  std::exception_ptr error_;
  std::jthread thread_;  // last: it uses the rest
};

}  // namespace plumb
