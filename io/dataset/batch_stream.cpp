#include "io/dataset/batch_stream.hpp"

#include <utility>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

constexpr size_t kStepsAhead = 2;

}  // namespace

void append_rows(MicroBatch& batch, const TokenRows& rows) {
  if (batch.document_begin.empty()) batch.document_begin.push_back(0);
  const bool has_pairs = rows.documents_per_row == 2;
  for (int64_t document = 0; document < rows.num_documents(); ++document) {
    const auto row = static_cast<size_t>(document / rows.documents_per_row);
    const int64_t begin = rows.offsets[document];
    const int64_t end = rows.offsets[document + 1];
    const int64_t prefix = has_pairs && document % 2 == 1 ? rows.prompt_lengths[row] : 0;
    batch.token_ids.insert(batch.token_ids.end(), rows.tokens.begin() + begin + prefix, rows.tokens.begin() + end);
    batch.loss_mask.insert(batch.loss_mask.end(), rows.loss_mask.begin() + begin + prefix,
                           rows.loss_mask.begin() + end);
    batch.document_begin.push_back(batch.num_tokens());
    batch.row_ids.push_back(rows.row_ids[row]);
    if (has_pairs) batch.prefix_length.push_back(prefix);
  }
  batch.margins.insert(batch.margins.end(), rows.margins.begin(), rows.margins.end());
}

MicroBatch make_micro_batch(const Dataset& dataset, const std::vector<int64_t>& rows,
                            const ReferenceLogps* reference_logps) {
  if (rows.empty()) return MicroBatch::empty();
  MicroBatch batch;
  for (const int64_t row : rows) {
    append_rows(batch, dataset.row(row));
    if (reference_logps == nullptr) continue;
    for (const int64_t example : dataset.examples_of_row(row)) {
      const std::vector<SequenceLogps> logps = reference_logps->read(example, example + 1);
      batch.reference_logps.insert(batch.reference_logps.end(), logps.begin(), logps.end());
    }
  }
  return batch;
}

BatchStream::BatchStream(const Dataset& dataset, const SamplerOptions& options, int rank, int num_ranks,
                         int64_t first_step, int64_t end_step, const ReferenceLogps* reference_logps)
    : dataset_(dataset),
      reference_logps_(reference_logps),
      options_(options),
      layout_(make_step_layout(options, dataset.num_rows(), num_ranks)),
      rank_(rank),
      num_ranks_(num_ranks),
      next_step_(first_step),
      end_step_(end_step),
      next_step_to_read_(first_step) {
  check(rank >= 0 && rank < num_ranks && first_step >= 0, "a rank lies among the ranks, and a first step exists");
  if (layout_.steps_per_epoch() == 0) {
    throw_error<UsageError>("{}: expected at least the {} rows of a step, got {}; drop_last leaves none",
                            dataset.directory(), layout_.rows_per_step(), layout_.num_rows);
  }
  thread_ = std::jthread([this](const std::stop_token& stop) { read_ahead(stop); });
}

BatchStream::~BatchStream() = default;  // the thread's own destructor asks it to stop and waits

void BatchStream::read_ahead(const std::stop_token& stop) {
  try {
    while (!stop.stop_requested() && next_step_to_read_ < end_step_) {
      std::vector<MicroBatch> step;
      for (int64_t a = 0; a < options_.accumulation_steps && !stop.stop_requested(); ++a) {
        const int64_t micro_batch = a * num_ranks_ + rank_;
        const auto rows = rows_of_micro_batch(options_, layout_, next_step_to_read_, micro_batch);
        step.push_back(make_micro_batch(dataset_, rows, reference_logps_));
        step.back().number = micro_batch;
      }
      ++next_step_to_read_;
      std::unique_lock lock(mutex_);
      // false: asked to stop
      if (!changed_.wait(lock, stop, [&] { return ready_.size() < kStepsAhead; })) return;
      ready_.push_back(std::move(step));
      changed_.notify_all();
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
    changed_.notify_all();
  }
}

std::vector<MicroBatch> BatchStream::next() {
  check(has_next(), "a stream is asked for the steps it has");
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !ready_.empty() || error_; });
  if (ready_.empty()) std::rethrow_exception(error_);
  std::vector<MicroBatch> step = std::move(ready_.front());
  ready_.pop_front();
  ++next_step_;
  changed_.notify_all();
  return step;
}

}  // namespace plumb
