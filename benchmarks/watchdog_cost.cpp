// What being watched costs a step: in one process per rank, short runs of steps with a watchdog and without, in turn,
// so that whatever else the machine does falls on both. Also how many operations a step publishes, which it does either
// way. Usage: mpirun -n RANKS plumb_watchdog_cost [PAIRS [STEPS of each run]]
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cstdlib>
#include <vector>

#include "apps/trainer.hpp"
#include "benchmarks/timing.hpp"
#include "lib/base/activity.hpp"
#include "lib/base/random.hpp"
#include "lib/objective/sft.hpp"
#include "partition/sharded_model.hpp"
#include "partition/watchdog.hpp"

namespace {

using namespace plumb;

/// As small as a model for which anybody would take several ranks, so that a step is short and its operations count.
ModelConfig small_llama() {
  ModelConfig config;
  config.vocab_size = 2048;
  config.hidden_size = 128;
  config.intermediate_size = 344;
  config.num_layers = 4;
  config.num_heads = config.num_kv_heads = 4;
  config.head_dim = 32;
  config.max_position_embeddings = 512;
  config.sliding_window.assign(4, 0);
  return config;
}

MicroBatch batch_of(int64_t num_tokens, int rank) {
  MicroBatch batch;
  batch.document_begin = {0, num_tokens};
  for (int64_t i = 0; i < num_tokens; ++i) batch.token_ids.push_back((i * 7919 + rank) % 2048);
  batch.loss_mask.assign(static_cast<size_t>(num_tokens), 1);
  return batch;
}

}  // namespace

int main(int argc, char** argv) {
  const MpiRuntime mpi;
  const Communicator comm;
  const int num_pairs = argc > 1 ? std::atoi(argv[1]) : 200, num_steps = argc > 2 ? std::atoi(argv[2]) : 10;
  at::set_num_threads(1);
  const ModelConfig config = small_llama();
  ShardedModel model(config, comm, {});
  model.load([&](int unit, ElementRange range, std::span<float> out) {
    for (int64_t i = range.begin; i < range.end; ++i) {
      const auto element = static_cast<uint32_t>(i), unit_word = static_cast<uint32_t>(unit);
      const bool is_padding = i >= model.units()[static_cast<size_t>(unit)].unit().num_elements;
      const auto word = static_cast<float>(philox({element, unit_word, 0, 0}, 1)[0]);
      out[static_cast<size_t>(i - range.begin)] = is_padding ? 0.0f : (word * 0x1p-32f - 0.5f) * 0.04f;
    }
  });
  SftObjective objective(config.rms_norm_eps, TokenLoss::kNll);
  Trainer trainer(model, comm, objective, {.adamw = {}, .schedule = {parse_schedule("constant"), 1e-5, 0, 1'000'000}});
  const std::vector<MicroBatch> batches = {batch_of(256, comm.rank())};

  const auto step_seconds = [&] { return seconds_of([&] { trainer.step(batches); }); };
  for (int i = 0; i < 3; ++i) step_seconds();
  const uint64_t before = progress().num_operations.load();
  step_seconds();
  const uint64_t operations_per_step = progress().num_operations.load() - before;
  std::vector<double> watched, unwatched;  // seconds of each step
  for (int pair = 0; pair < num_pairs; ++pair) {
    for (const bool is_watched : {pair % 2 == 0, pair % 2 != 0}) {
      const Watchdog watchdog(comm, is_watched ? 600 : 0);
      comm.barrier();
      for (int i = 0; i < num_steps; ++i) (is_watched ? watched : unwatched).push_back(step_seconds());
    }
  }
  if (comm.rank() == 0) {
    fmt::print("{} rank(s), {} pairs of {} steps, {} operations a step; seconds of a step, watched / not:\n",
               comm.size(), num_pairs, num_steps, operations_per_step);
    for (const double share : {0.1, 0.25, 0.5}) {
      const double with = percentile(watched, share), without = percentile(unwatched, share);
      fmt::print("  percentile {:2.0f}: {:.6f} / {:.6f} = {:.4f}\n", share * 100, with, without, with / without);
    }
  }
  return 0;
}
