// Cost of the watchdog per step: in one process per rank, short runs of steps with and without a watchdog, in random
// order, so that other load on the machine affects both. Also costs that do not depend on that load: the processor time
// of all threads except the main one, and the number of operations that a step publishes (with or without a watchdog).
// Usage: mpirun -n RANKS plumb_watchdog_cost [PAIRS [STEPS of each run [LIMIT in seconds]]]; a limit of 0, which
// disables the watchdog, shows the noise of the machine.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <numeric>
#include <vector>

#include "apps/models/model_setup.hpp"
#include "apps/train/trainer.hpp"
#include "benchmarks/timing.hpp"
#include "lib/base/activity.hpp"
#include "lib/base/random.hpp"
#include "lib/objective/sft.hpp"
#include "partition/sharded_model.hpp"
#include "partition/watchdog.hpp"

namespace {

using namespace plumb;

/// The smallest model for which several ranks make sense, so that steps are short and the cost of operations is
/// visible.
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
  batch.loss_mask.assign(num_tokens, 1);
  return batch;
}

struct Runs {
  std::vector<double> step_seconds;  // mean of each run, since only a few steps coincide with a check
  double other_threads_seconds = 0;
};

double seconds_on(clockid_t clock) {
  timespec t = {};
  ::clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Processor time of this process without that of the calling thread.
double other_threads_seconds() { return seconds_on(CLOCK_PROCESS_CPUTIME_ID) - seconds_on(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace

int main(int argc, char** argv) {
  const MpiRuntime mpi;
  const Communicator comm;
  const int num_pairs = argc > 1 ? std::atoi(argv[1]) : 200, num_steps = argc > 2 ? std::atoi(argv[2]) : 20;
  const double limit_seconds = argc > 3 ? std::atof(argv[3]) : 600;
  set_up_process(comm, 1);
  const ModelConfig config = small_llama();
  ShardedModel model(config, comm, {});
  model.load([&](int unit, ElementRange range, std::span<float> out) {
    for (int64_t i = range.begin; i < range.end; ++i) {
      const auto element = static_cast<uint32_t>(i), unit_word = static_cast<uint32_t>(unit);
      const bool is_padding = i >= model.units()[unit].unit().num_elements;
      const auto word = static_cast<float>(philox({element, unit_word, 0, 0}, 1)[0]);
      out[i - range.begin] = is_padding ? 0.0f : (word * 0x1p-32f - 0.5f) * 0.04f;
    }
  });
  SftObjective objective(config.output(), TokenLoss::kNll);
  Trainer trainer(model, comm, objective, {.adamw = {}, .schedule = {ScheduleKind::kConstant, 1e-5, 0, 1'000'000}});
  const std::vector<MicroBatch> batches = {batch_of(256, comm.rank())};

  const auto step_seconds = [&] { return seconds_of([&] { trainer.step(batches); }); };
  for (int i = 0; i < 3; ++i) step_seconds();
  const uint64_t before = progress().num_operations.load();
  step_seconds();
  const uint64_t operations_per_step = progress().num_operations.load() - before;
  Runs watched, unwatched;
  for (int pair = 0; pair < num_pairs; ++pair) {
    const bool is_watched_first = philox({static_cast<uint32_t>(pair), 0, 0, 0}, 2)[0] % 2 == 0;
    for (const bool is_watched : {is_watched_first, !is_watched_first}) {
      const Watchdog watchdog(comm, is_watched ? limit_seconds : 0);
      step_seconds();  // warm-up, after the watchdog has started or the one before has ended
      std::vector<double> seconds(num_steps);
      const double others_before = other_threads_seconds();
      for (double& s : seconds) s = step_seconds();
      Runs& runs = is_watched ? watched : unwatched;
      runs.other_threads_seconds += other_threads_seconds() - others_before;
      runs.step_seconds.push_back(std::accumulate(seconds.begin(), seconds.end(), 0.0) / num_steps);
    }
  }
  if (comm.rank() == 0) {
    std::vector<double> ratios;
    for (int i = 0; i < num_pairs; ++i) ratios.push_back(watched.step_seconds[i] / unwatched.step_seconds[i]);
    const double half_width =
        1.96 * 0.5 / std::sqrt(num_pairs);  // of the median's confidence interval, as a fraction of the ranks
    const double step = median(unwatched.step_seconds), num_watched_steps = 1.0 * num_pairs * num_steps;
    fmt::print("{} rank(s), {} pairs of {} steps of {:.3f} ms\n", comm.size(), num_pairs, num_steps, 1e3 * step);
    fmt::print("  watched / not, median of the pairs: {:.4f}, 95 % interval {:.4f} to {:.4f}\n", median(ratios),
               percentile(ratios, std::max(0.0, 0.5 - half_width)),
               percentile(ratios, std::min(1.0, 0.5 + half_width)));
    const double spent = (watched.other_threads_seconds - unwatched.other_threads_seconds) / num_watched_steps;
    fmt::print("  processor time of other threads: {:.2f} us more a step, {:.4f} % of it\n", 1e6 * spent,
               100 * spent / step);
    fmt::print("  operations a step: {}\n", operations_per_step);
  }
  return 0;
}
