// The same short training of a small model, on any number of ranks and with any exchange: what two trainings must agree
// on bit by bit.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "lib/base/random.hpp"
#include "lib/objective/dpo.hpp"
#include "lib/objective/reward.hpp"
#include "lib/objective/sft.hpp"
#include "partition/sharded_model.hpp"
#include "tests/support/random_batch.hpp"

namespace plumb::test {

inline constexpr int64_t kMicroBatches = 24;  // per step

struct Outcome {
  std::vector<double> norms;
  std::vector<double> losses;
  std::vector<std::vector<float>> parameters;  // whole units, without padding
  std::vector<CollectiveRecord> records;       // of the first step
};

/// The loss, as in the stages of these names. Pairs are two documents of a micro-batch.
enum class Task { kSft, kReward, kDpo };

/// How a training is run where it is not as usual.
struct TrainingRun {
  uint64_t num_steps = 3;
  Placement placement = {};
  std::function<void(TrainableModel&)> before_update = [](TrainableModel&) {};
  Task task = Task::kSft;
  /// After each update; what it returns is compared as the losses are.
  std::function<std::vector<double>(TrainableModel&)> measure = [](TrainableModel&) { return std::vector<double>(); };
};

inline std::unique_ptr<Objective> objective_of(Task task, const OutputConfig& output) {
  if (task == Task::kReward) return std::make_unique<RewardObjective>(output, 0.01, std::nullopt);
  if (task == Task::kDpo) return std::make_unique<DpoObjective>(DpoOptions{}, output);
  return std::make_unique<SftObjective>(output, TokenLoss::kNll);
}

/// This rank's micro-batches of a step.
inline std::vector<MicroBatch> batches_of_step(const TrainableModel& model, const Communicator& comm, uint64_t step) {
  std::vector<MicroBatch> batches;
  for (int64_t a = 0; a < kMicroBatches / comm.size(); ++a) {
    const int64_t number = a * comm.size() + comm.rank();
    batches.push_back(random_batch(step, static_cast<uint64_t>(number), model.config().vocab_size));
    batches.back().number = number;
  }
  return batches;
}

/// Passes forward alone: the reference that DPO compares with.
inline void add_reference(TrainableModel& model, std::vector<MicroBatch>& batches) {
  TokenLossScratch scratch;
  for (MicroBatch& batch : batches) {
    ForwardPass pass = model.forward(batch, predicting_rows(batch), Pass::evaluation());
    batch.reference_logps = sequence_logps(pass.hidden_TD(), batch, pass.head(), model.config().output(), scratch);
    pass.finish();
  }
}

/// The parameters of a unit of this rank and all others. Collective over comm.
inline std::vector<float> whole_unit(const TrainableModel& model, const Communicator& comm, size_t unit) {
  const ShardLayout& layout = model.units()[unit];
  std::vector<float> whole(layout.padded_elements());
  const std::span<const float> mine = model.parameter_shard(static_cast<int>(unit));
  MPI_Allgather(mine.data(), static_cast<int>(mine.size()), MPI_FLOAT, whole.data(), static_cast<int>(mine.size()),
                MPI_FLOAT, comm.mpi());
  for (size_t i = static_cast<size_t>(layout.unit().num_elements); i < whole.size(); ++i)
    EXPECT_EQ(whole[i], 0.0f) << "padding of unit " << unit;
  whole.resize(layout.unit().num_elements);
  return whole;
}

/// Some steps of a model that is loaded. Collective over comm.
inline void take_steps(TrainableModel& model, const Communicator& comm, const TrainingRun& run, Outcome& outcome) {
  const std::unique_ptr<Objective> objective = objective_of(run.task, model.config().output());
  const BatchWeight weight = {.items = run.task == Task::kSft ? 300 : kMicroBatches, .chosen_tokens = 150};
  std::vector<std::vector<MicroBatch>> steps;
  for (uint64_t step = 0; step < run.num_steps; ++step) {
    steps.push_back(batches_of_step(model, comm, step));
    if (run.task == Task::kDpo) add_reference(model, steps.back());
  }
  for (const std::vector<MicroBatch>& batches : steps) {
    ObjectiveSums sums = objective->empty_sums();
    for (size_t a = 0; a < batches.size(); ++a) {
      const MicroBatch& batch = batches[a];
      ForwardPass pass = model.forward(batch, objective->read_rows(batch), Pass::training(static_cast<int64_t>(a)));
      pass.backward(objective->apply(pass.hidden_TD(), batch, pass.head(), pass.head_gradients(), weight, sums));
    }
    comm.sum(sums.sums[0]);
    outcome.losses.push_back(sums.sums[0].value());
    run.before_update(model);
    outcome.norms.push_back(model.gradient_norm());
    model.update({.weight_decay = 0.1}, 1e-2, std::ssize(outcome.norms), 0.5);
    const std::vector<double> measured = run.measure(model);
    outcome.losses.insert(outcome.losses.end(), measured.begin(), measured.end());
  }
  for (size_t unit = 0; unit < model.units().size(); ++unit)
    outcome.parameters.push_back(whole_unit(model, comm, unit));
}

/// Some steps of the same training on the ranks of `comm`. Collective over comm.
inline Outcome train(const Communicator& comm, ModelConfig config, EngineOptions options, const TrainingRun& run = {}) {
  options.accumulation_steps = kMicroBatches / comm.size();
  if (run.task == Task::kReward) config.head = HeadKind::kScore;
  ShardedModel model(config, comm, options, run.placement);
  model.load([&](int unit, ElementRange range, std::span<float> out) {
    const UnitLayout& layout = model.units()[unit].unit();
    for (const Parameter& p : layout.parameters)
      for (int64_t i = std::max(range.begin, p.offset); i < std::min(range.end, p.offset + p.num_elements()); ++i) {
        const double value = random_normal(9, static_cast<uint64_t>(unit), static_cast<uint64_t>(i)) * 0.2;
        out[i - range.begin] = static_cast<float>(p.shape.size() > 1 ? value : 1.0 + value);
      }
  });
  Outcome outcome;
  model.exchange().observe([&](const CollectiveRecord& record) {
    if (outcome.norms.empty()) outcome.records.push_back(record);
  });
  take_steps(model, comm, run, outcome);
  return outcome;
}

}  // namespace plumb::test
