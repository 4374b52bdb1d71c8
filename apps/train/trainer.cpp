#include "apps/train/trainer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

/// Collective: exact, so the same bits on any number of ranks. One message carries all sums, including `more`.
void sum_over_ranks(const Communicator& comm, ObjectiveSums& sums, std::span<int64_t> more = {}) {
  std::vector<int64_t> packed = {sums.num_tokens};
  packed.insert(packed.end(), more.begin(), more.end());
  packed.insert(packed.end(), sums.counts.begin(), sums.counts.end());
  for (ExactSum& sum : sums.sums) {
    sum.carry();
    packed.insert(packed.end(), sum.bins().begin(), sum.bins().end());
  }
  comm.sum(packed);
  const int64_t* next = packed.data();
  sums.num_tokens = *next++;
  for (int64_t& number : more) number = *next++;
  for (int64_t& count : sums.counts) count = *next++;
  for (ExactSum& sum : sums.sums)
    for (int64_t& bin : sum.bins()) bin = *next++;
  if (!sums.maxima.empty()) comm.max(std::span<double>(sums.maxima));
}

/// Collective: sums `sums` over ranks, and exchanges the reports of the ranks with them.
RankReports sum_step(const Communicator& comm, ObjectiveSums& sums, int64_t compute_ns, const RankReport& report) {
  std::vector<int64_t> numbers = {report.wants_stop, report.is_memory_damaged};
  numbers.resize(comm.size() + 2);
  if (sums.num_tokens > 0) numbers[comm.rank() + 2] = compute_ns * 1000 / sums.num_tokens;
  sum_over_ranks(comm, sums, numbers);
  return {numbers[0] > 0, numbers[1] > 0, {numbers.begin() + 2, numbers.end()}};
}

/// Collective: computes the statistics of every micro-batch of a global batch or set, forward only, and passes them to
/// the objective.
void gather_global_statistics(TrainableModel& model, const Communicator& comm, Objective& objective, int64_t num_rounds,
                              const NextMicroBatches& next) {
  std::vector<std::vector<double>> statistics;
  for (int64_t round = 0; round < num_rounds; ++round)
    for (const MicroBatch& batch : next()) {
      ForwardPass pass = model.forward(batch, objective.read_rows(batch), Pass::evaluation());
      const std::vector<double> mine = objective.statistics_of(pass.hidden_TD(), batch, pass.head());
      pass.finish();
      for (std::vector<double>& rank_statistics : comm.all_gather(mine))
        statistics.push_back(std::move(rank_statistics));
    }
  objective.set_global_statistics(statistics);
}

/// Collective: the divisor of the step's loss, known before the first backward pass.
BatchWeight weigh_global_batch(const Communicator& comm, const Objective& objective,
                               const std::vector<MicroBatch>& micro_batches) {
  std::array<int64_t, 2> sums = {0, 0};
  for (const MicroBatch& batch : micro_batches) {
    const BatchWeight weight = objective.weigh(batch);
    sums[0] += weight.items;
    sums[1] += weight.chosen_tokens;
  }
  comm.sum(sums);
  check(sums[0] > 0, "every step has trained tokens or pairs");
  return {sums[0], sums[1]};
}

/// Counts the tokens of the experts in all micro-batches but the first, forward only: the gradient of the routers' loss
/// needs those of all before the first backward pass.
void count_ahead(TrainableModel& model, Objective& objective, const std::vector<MicroBatch>& micro_batches,
                 RouterBalance& routers) {
  for (size_t i = 1; i < micro_batches.size(); ++i) {
    ForwardPass pass = model.forward(micro_batches[i], objective.read_rows(micro_batches[i]), Pass::rehearsal());
    routers.count(pass.router_loads());
    pass.finish();
  }
}

/// The factor for the gradients, as in torch.nn.utils.clip_grad_norm_.
double clip_scale(double norm, double max_norm) {
  return max_norm == 0 ? 1.0 : std::min(1.0, max_norm / (norm + 1e-6));
}

double find_metric(const std::vector<Metric>& metrics, std::string_view name) {
  const auto found = std::find_if(metrics.begin(), metrics.end(), [&](const Metric& m) { return m.name == name; });
  check(found != metrics.end(), "the objective has this metric");
  return found->value;
}

}  // namespace

double StepStats::metric(std::string_view name) const { return find_metric(metrics, name); }
double EvaluationStats::metric(std::string_view name) const { return find_metric(metrics, name); }

BatchGradient accumulate_global_batch(TrainableModel& model, const Communicator& comm, Objective& objective,
                                      const std::vector<MicroBatch>& micro_batches,
                                      const std::function<RankReport()>& report, int64_t step) {
  const int64_t start_ns = steady_now_ns() - collective_wait_ns();
  BatchGradient gradient;
  gradient.weight = weigh_global_batch(comm, objective, micro_batches);
  if (objective.needs_global_statistics())
    gather_global_statistics(model, comm, objective, 1, [&] { return micro_batches; });

  RouterBalance routers(model.router_loss_coefficient());
  if (routers.has_loss()) count_ahead(model, objective, micro_batches, routers);
  gradient.sums = objective.empty_sums();
  for (int64_t i = 0; i < std::ssize(micro_batches); ++i) {
    const MicroBatch& batch = micro_batches[i];
    Phase phase("forward", step);
    ForwardPass forward = model.forward(batch, objective.read_rows(batch), Pass::training(i));
    if (i == 0 || !routers.has_loss()) routers.count(forward.router_loads());
    if (i == 0 && routers.has_loss()) routers.sum_counts(comm);
    routers.add_loss(forward.router_loads());
    phase.next("loss");
    at::Tensor loss_gradient_TD = objective.apply(forward.hidden_TD(), batch, forward.head(), forward.head_gradients(),
                                                  gradient.weight, gradient.sums);
    phase.next("backward");
    forward.backward(std::move(loss_gradient_TD), routers.gradient_E());
  }
  const Phase phase("reduce", step);
  const int64_t compute_ns = steady_now_ns() - collective_wait_ns() - start_ns;
  gradient.reports = sum_step(comm, gradient.sums, compute_ns, report ? report() : RankReport());
  if (!routers.has_loss()) routers.sum_counts(comm);
  gradient.routers = routers.finish(comm);
  gradient.norm = model.gradient_norm();
  return gradient;
}

Trainer::Trainer(TrainableModel& model, const Communicator& comm, Objective& objective, const TrainerOptions& options,
                 TrainerState state)
    : model_(model), comm_(comm), objective_(objective), options_(options), state_(std::move(state)) {
  take_checksums(false);
}

void Trainer::take_checksums(bool is_stopping) {
  checksums_.forget();
  if (!options_.is_memory_checked) return;
  if (is_stopping || options_.is_memory_checked(state_.num_steps_done)) checksums_.take(model_.trained_shards());
}

void Trainer::verify_memory() const {
  const std::vector<std::string> changed = comm_.all_gather(checksums_.find_changed(model_.trained_shards()));
  for (int rank = 0; rank < comm_.size(); ++rank)
    if (const std::string& what = changed[rank]; !what.empty())
      throw AgreedError(
          fmt::format("rank {}: memory corruption: {} changed after step {}; the same command resumes from the "
                      "last checkpoint, better without that machine",
                      rank, what, state_.num_steps_done),
          kExitTransient);
}

StepStats Trainer::step(const std::vector<MicroBatch>& micro_batches) {
  // checked before the gradient is used: a flipped bit may be why it is not finite
  const auto report = [this]() -> RankReport {
    return {options_.wants_stop && options_.wants_stop(), !checksums_.find_changed(model_.trained_shards()).empty()};
  };
  const BatchGradient gradient =
      accumulate_global_batch(model_, comm_, objective_, micro_batches, report, state_.num_steps_done + 1);
  if (gradient.reports.is_memory_damaged) verify_memory();
  StepStats stats;
  stats.reports = gradient.reports;
  stats.metrics = objective_.metrics(gradient.sums, /*is_evaluation=*/false);
  stats.metrics.front().value += gradient.routers.weighted_loss;
  stats.metrics.insert(stats.metrics.end(), gradient.routers.metrics.begin(), gradient.routers.metrics.end());
  stats.num_tokens = gradient.sums.num_tokens;
  stats.grad_norm = gradient.norm;
  stats.learning_rate = options_.schedule.at(state_.num_steps_done);
  stats.skip_reason = std::isfinite(stats.loss()) && std::isfinite(stats.grad_norm)
                          ? describe_spike(state_.history, stats.loss(), stats.grad_norm, options_.spike_threshold)
                          : fmt::format("loss {} or gradient norm {} is not finite", stats.loss(), stats.grad_norm);
  ++state_.num_steps_done;
  const Phase phase("update", state_.num_steps_done);
  if (stats.is_skipped()) {
    ++state_.num_consecutive_skips;
    model_.on_parameters_changed(state_.num_steps_done);  // unchanged parameters count as those after one more step
    return stats;
  }
  state_.num_consecutive_skips = 0;
  add_step(state_.history, stats.loss(), stats.grad_norm);
  model_.update(options_.adamw, stats.learning_rate, state_.num_steps_done,
                clip_scale(stats.grad_norm, options_.max_grad_norm));
  take_checksums(stats.reports.is_stop_wanted);
  return stats;
}

void Trainer::resume_from(TrainerState state) {
  state_ = std::move(state);
  model_.on_parameters_changed(state_.num_steps_done);
  take_checksums(false);
}

EvaluationStats evaluate_model(TrainableModel& model, const Communicator& comm, Objective& objective,
                               int64_t num_rounds, const std::function<NextMicroBatches()>& start) {
  if (objective.needs_global_statistics()) gather_global_statistics(model, comm, objective, num_rounds, start());
  ObjectiveSums sums = objective.empty_sums();
  int64_t num_items = 0;
  const NextMicroBatches next = start();
  int64_t number = comm.rank();
  for (int64_t round = 0; round < num_rounds; ++round)
    for (MicroBatch& batch : next()) {
      batch.number = number;  // in the set, not in its round
      number += comm.size();
      num_items += objective.weigh(batch).items;
      ForwardPass pass = model.forward(batch, objective.read_rows(batch), Pass::evaluation());
      objective.apply(pass.hidden_TD(), batch, pass.head(), nullptr, {}, sums);
      pass.finish();
    }
  sum_over_ranks(comm, sums);
  comm.sum(std::span(&num_items, 1));
  return {num_items, sums.num_tokens, objective.metrics(sums, /*is_evaluation=*/true)};
}

}  // namespace plumb
