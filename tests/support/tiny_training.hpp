// The same short training of a small model, on any number of ranks and with any exchange: what two trainings must agree
// on bit by bit.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <utility>
#include <vector>

#include "lib/base/random.hpp"
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

/// How a training is run where it is not as usual.
struct TrainingRun {
  uint64_t num_steps = 3;
  MakeExchange make_exchange = make_node_exchange;
  std::function<void(ShardedModel&)> before_update = [](ShardedModel&) {};
};

/// Some steps of the same training on the ranks of `comm`. Collective over comm.
inline Outcome train(const Communicator& comm, const ModelConfig& config, EngineOptions options,
                     const TrainingRun& run = {}) {
  options.accumulation_steps = kMicroBatches / comm.size();
  ShardedModel model(config, comm, options, run.make_exchange);
  model.load([&](int unit, ElementRange range, std::span<float> out) {
    const UnitLayout& layout = model.units()[unit].unit();
    for (const Parameter& p : layout.parameters)
      for (int64_t i = std::max(range.begin, p.offset); i < std::min(range.end, p.offset + p.num_elements()); ++i) {
        const double value = random_normal(9, static_cast<uint64_t>(unit), static_cast<uint64_t>(i)) * 0.2;
        out[i - range.begin] = static_cast<float>(p.shape.size() > 1 ? value : 1.0 + value);
      }
  });
  Outcome outcome;
  model.exchange().observe([&](const CollectiveRecord& record) { outcome.records.push_back(record); });
  SftObjective objective(OutputConfig{}, TokenLoss::kNll);
  for (uint64_t step = 0; step < run.num_steps; ++step) {
    ObjectiveSums sums = objective.empty_sums();
    for (int64_t a = 0; a < options.accumulation_steps; ++a) {
      const MicroBatch batch =
          random_batch(step, static_cast<uint64_t>(a * comm.size() + comm.rank()), config.vocab_size);
      ForwardPass pass = model.forward(batch, objective.read_rows(batch), Pass::training(a));
      pass.backward(objective.apply(pass.hidden_TD(), batch, pass.head(), pass.head_gradients(), {.items = 300}, sums));
    }
    if (step == 0) model.exchange().observe({});
    comm.sum(sums.sums[0]);
    outcome.losses.push_back(sums.sums[0].value());
    run.before_update(model);
    outcome.norms.push_back(model.gradient_norm());
    model.update({.weight_decay = 0.1}, 1e-2, static_cast<int64_t>(step) + 1, 0.5);
  }
  for (size_t unit = 0; unit < model.units().size(); ++unit) {
    const ShardLayout& layout = model.units()[unit];
    std::vector<float> whole(layout.padded_elements());
    const std::span<float> mine = model.parameter_shard(static_cast<int>(unit));
    MPI_Allgather(mine.data(), static_cast<int>(mine.size()), MPI_FLOAT, whole.data(), static_cast<int>(mine.size()),
                  MPI_FLOAT, comm.mpi());
    for (size_t i = static_cast<size_t>(layout.unit().num_elements); i < whole.size(); ++i)
      EXPECT_EQ(whole[i], 0.0f) << "padding of unit " << unit;
    whole.resize(layout.unit().num_elements);
    outcome.parameters.push_back(std::move(whole));
  }
  return outcome;
}

}  // namespace plumb::test
