#include "apps/train/policy_logps.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "apps/models/model_setup.hpp"
#include "apps/run/output_directory.hpp"
#include "apps/train/stage_options.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "io/checkpoint/directory.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/objective/grpo.hpp"

namespace plumb {

bool shares_prompts(const TrainableModel& model) {
  return !model.config().rope_depends_on_length() && model.router_loss_coefficient() == 0;
}

std::vector<std::vector<float>> round_logps(const Communicator& comm, TrainableModel& model, double temperature,
                                            const RoundLayout& layout, const Round& round) {
  const OutputConfig output = at_temperature(model.config().output(), temperature);
  const int64_t num_micro_batches = layout.windows_per_round * layout.micro_batches_per_step;
  TokenLossScratch scratch;
  std::vector<std::vector<float>> by_row(round.num_rows());
  for (int64_t first = 0; first < num_micro_batches; first += comm.size()) {
    const auto rows_of = [&](int64_t number) {
      return layout.rows_of(number / layout.micro_batches_per_step, number % layout.micro_batches_per_step);
    };
    const MicroBatch batch = micro_batch_of(round, rows_of(first + comm.rank()), first + comm.rank(),
                                            {.shares_prompts = shares_prompts(model)});
    ForwardPass pass = model.forward(batch, predicting_rows(batch), Pass::evaluation());
    const std::vector<float> mine = token_logps(pass.hidden_TD(), batch, pass.head(), output, scratch);
    pass.finish();
    const std::vector<std::vector<float>> by_rank = comm.all_gather(mine);
    for (int rank = 0; rank < comm.size(); ++rank) {
      auto next = by_rank[rank].begin();
      const RowRange rows = rows_of(first + rank);
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        const auto end = next + round.trained_tokens(row);
        by_row[row].assign(next, end);
        next = end;
      }
      check(next == by_rank[rank].end(), "every trained token has its log-probability");
    }
  }
  return by_row;
}

void check_round(const Communicator& comm, TrainableModel& model, const TrainOptions& o, const Round& round) {
  constexpr int64_t kRowsChecked = 4;
  Round first;
  first.rollouts.assign(round.rollouts.begin(), round.rollouts.begin() + std::min(kRowsChecked, round.num_rows()));
  first.is_trained.assign(first.rollouts.size(), 1);
  const int64_t num_rows = first.num_rows(), num_slots = (num_rows + comm.size() - 1) / comm.size() * comm.size();
  const auto sums_of = [&](const RoundLayout& layout) {
    std::vector<double> sums;
    for (const std::vector<float>& logps : round_logps(comm, model, o.rl.temperature, layout, first))
      sums.push_back(std::accumulate(logps.begin(), logps.end(), 0.0));
    return sums;
  };
  const std::vector<double> together = sums_of({num_rows, comm.size(), 1, 1, 1, num_rows});
  const std::vector<double> alone = sums_of({1, num_slots, 1, 1, 1, num_rows});
  const double tolerance = startup_check_options(o).tolerance;
  bool is_passed = true;
  std::string detail;
  for (int64_t row = 0; row < num_rows; ++row) {
    is_passed = is_passed && std::abs(together[row] - alone[row]) <= tolerance * std::max(1.0, std::abs(alone[row]));
    detail += fmt::format("{}{:.7g} and {:.7g}", row == 0 ? "log-probabilities " : ", ", together[row], alone[row]);
  }
  const char* const name = "several completions in one micro-batch = each by itself";
  comm.run_on_rank0([&] {
    log_info("check: {}: {} ({})", name, is_passed ? "yes" : "NO", detail);
    const nlohmann::ordered_json line = {{"name", name}, {"passed", is_passed}, {"detail", detail}};
    write_file_atomically(o.output_dir + "/checks.json",
                          nlohmann::ordered_json{{"checks", nlohmann::ordered_json::array({line})}}.dump(2) + "\n");
    if (!is_passed)
      throw_error<NumericError>("start-up check failed: {}: {}; --startup_checks false trains anyway", name, detail);
  });
}

ReferencePolicy::ReferencePolicy(const Communicator& comm, const TrainOptions& o, const TrainedModel& trained,
                                 const ModelConfig& config, const HfModel& source, const AdapterStart* adapter) {
  if (adapter && !adapter->continued && adapter->adapter.whole.empty()) {
    base_ = trained.adapted.get();
    return;
  }
  if (adapter) {
    frozen_ = load_frozen_model(comm, config, source, o.lora.adapter, scalar_type(o.model.dtype));
    return;
  }
  EngineOptions engine = engine_options(o, config);
  engine.is_trained = false;
  whole_ = std::make_unique<ShardedModel>(config, comm, engine);
  load_weights(comm, *whole_, source);
}

std::vector<std::vector<float>> ReferencePolicy::logps(const Communicator& comm, double temperature,
                                                       const RoundLayout& layout, const Round& round) {
  if (whole_) return round_logps(comm, *whole_, temperature, layout, round);
  if (frozen_) return round_logps(comm, *frozen_, temperature, layout, round);
  base_->use_adapter(false);
  std::vector<std::vector<float>> of_base = round_logps(comm, *base_, temperature, layout, round);
  base_->use_adapter(true);
  return of_base;
}

void ReferencePolicy::mix(const ShardedModel& trained, double share) {
  check(whole_ != nullptr, "only a whole model is a reference that changes");
  const auto new_share = static_cast<float>(share), old_share = static_cast<float>(1 - share);
  for (int unit = 0; unit < std::ssize(trained.units()); ++unit) {
    const std::span<float> mine = whole_->parameter_shard(unit);
    const std::span<const float> theirs = trained.parameter_shard(unit);
    for (size_t i = 0; i < mine.size(); ++i) mine[i] = new_share * theirs[i] + old_share * mine[i];
  }
  whole_->on_parameters_changed(0);
}

namespace {

/// Beside "checkpoints", whose files are those of the trained model alone.
std::string reference_directory(const std::string& output_dir) { return output_dir + "/reference"; }

}  // namespace

/// As checkpoints hold them; a reference has no moments, so zeros in the smallest format stand for them.
std::vector<TrainedShard> ReferencePolicy::shards(std::vector<AdamWState>& no_moments) {
  no_moments.clear();
  for (const ShardLayout& unit : whole_->units()) no_moments.emplace_back(unit.shard_elements(), /*is_8bit=*/true);
  std::vector<TrainedShard> shards;
  for (size_t unit = 0; unit < no_moments.size(); ++unit)
    shards.push_back({&whole_->units()[unit], whole_->parameter_shard(static_cast<int>(unit)), &no_moments[unit]});
  return shards;
}

void ReferencePolicy::save(const Communicator& comm, const std::string& output_dir, int64_t step) {
  const std::string directory = reference_directory(output_dir);
  std::vector<AdamWState> no_moments;
  CheckpointSave(comm, directory, step, nlohmann::ordered_json::object(), shards(no_moments), nullptr).finish();
  comm.run_on_rank0([&] {
    std::vector<int64_t> kept = {step};
    for (const CheckpointPlace& place : list_checkpoints(checkpoint_directory(output_dir))) kept.push_back(place.step);
    prune_checkpoints(directory, step, /*limit=*/1, kept);
  });
}

void ReferencePolicy::restore(const Communicator& comm, const std::string& output_dir, int64_t step) {
  const Checkpoint saved = open_checkpoint(comm, join_path(reference_directory(output_dir), checkpoint_name(step)));
  std::vector<AdamWState> no_moments;
  restore_checkpoint(comm, saved, shards(no_moments));
  whole_->on_parameters_changed(0);
}

}  // namespace plumb
